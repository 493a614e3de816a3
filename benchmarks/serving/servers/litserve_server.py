"""LitServe with its batching: `python litserve_server.py CHECKPOINT PORT`."""

import sys
from pathlib import Path
from typing import Any

import litserve
from fastapi import Request

sys.path.insert(0, str(Path(__file__).parent))
from scorer import Scorer

FOLDER = sys.argv[1] if len(sys.argv) > 1 else ""


class Classifier(litserve.LitAPI):  # type: ignore[misc] # has no types
    """One text a request, up to 32 a batch."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        self.score = Scorer(FOLDER)

    # LitServe looks at the annotation to know that it is to parse JSON, so it must be no string.
    def decode_request(self, request: Request) -> str:
        """Return the text of the body, which LitServe has made a dictionary."""
        return str(request["text"])  # type: ignore[index] # as said

    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """Score a batch."""
        return self.score(texts)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the answer."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(max_batch_size=32, batch_timeout=0.002), accelerator="cpu", timeout=60)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning", num_api_servers=1
    )
