"""What can be known to be wrong before anything loads. Imports little: it runs in the supervisor, too."""

from __future__ import annotations

from bertie.config import ServeSettings
from bertie.serve.keys import Keys
from bertie.serve.tls import certificate
from bertie.serve.traces import need_sdk


def check(settings: ServeSettings) -> None:
    """Raise UsageError for keys or a certificate that cannot be used, DependencyMissing for what sends traces."""
    Keys(settings.api_keys)
    certificate(settings.tls_cert, settings.tls_key)
    if settings.traces:
        need_sdk()
