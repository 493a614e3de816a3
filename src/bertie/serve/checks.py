"""What can be known to be wrong before anything loads. Imports little: it runs in the supervisor, too."""

from __future__ import annotations

from bertie.config import ServeSettings
from bertie.errors import UsageError
from bertie.sagemaker_environment import MODEL_STORE
from bertie.serve.keys import Keys
from bertie.serve.tls import certificate
from bertie.serve.traces import need_sdk


def check(settings: ServeSettings) -> None:
    """Raise UsageError for settings that cannot be used, DependencyMissing for what sends traces."""
    if settings.grpc_port and settings.grpc_port == settings.port:
        raise UsageError(f"HTTP and gRPC cannot both have port {settings.port}.", hint="give --grpc-port another one")
    store = settings.model_store
    # SageMaker makes its own when the first model comes.
    if store is not None and str(store) != MODEL_STORE and not store.is_dir():
        raise UsageError(f"--model-store: there is no folder {store}.")
    Keys(settings.api_keys)
    certificate(settings.tls_cert, settings.tls_key)
    if settings.traces:
        need_sdk()
