"""`python -m bertie.deploy.container.ping`: ends with 0 if the server in this container is ready, with 1 if not.

A slim image has no curl. The port is the one that the environment names; flags of the server are not seen here.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping

SECONDS = 2
"""Time for an answer: SageMaker's own probe waits as long."""


def ready(environment: Mapping[str, str]) -> bool:
    """Ask GET /ping of the server on this machine."""
    port = int(environment.get("BERTIE_SERVE_PORT") or environment.get("SAGEMAKER_BIND_TO_PORT") or 8080)
    if environment.get("BERTIE_SERVE_TLS_CERT"):
        # The certificate is made for the name that clients use, not for this address.
        context = ssl._create_unverified_context()  # noqa: S323
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if ready(os.environ) else 1)
