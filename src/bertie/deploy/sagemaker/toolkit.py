"""Calls an artifact's `code/inference.py` as the inference toolkits do, to try it where they are not installed.

`python -P toolkit.py FOLDER` reads a JSON object a line, with `body`, `content_type` and `accept`, and writes one a
line, with `status`, `content_type` and `body`. The folder's own copy of the package is imported, no other.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any


class Request:
    """One request of the model server: mms.context.RequestProcessor, as far as programs use it."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self.status = 200
        self.answered: dict[str, str] = {}

    def get_request_properties(self) -> dict[str, str]:
        """Return the headers of the request."""
        return self._headers

    def report_status(self, code: int, reason_phrase: str | None = None) -> None:
        """Set the status of the answer."""
        self.status = code

    def add_response_property(self, key: str, value: str) -> None:
        """Set a header of the answer."""
        self.answered[key] = value


class Context:
    """What a program is given beside the body: mms.context.Context, as far as programs use it."""

    request_processor: list[Request]


def _call(program: Any, model: Any, asked: dict[str, str]) -> dict[str, Any]:
    context = Context()
    request = Request({"Content-Type": asked["content_type"], "Accept": asked["accept"]})
    context.request_processor = [request]
    # MMS gives bytearrays; the content type of the answer is then set once more, by the toolkits.
    body = program.transform_fn(
        model, bytearray(asked["body"].encode()), asked["content_type"], asked["accept"], context
    )
    request.add_response_property("content-type", asked["accept"])
    return {"status": request.status, "content_type": request.answered["content-type"], "body": body.decode()}


def main() -> None:
    """Answer what comes on stdin."""
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder / "code"))
    program = importlib.import_module("inference")
    model = program.model_fn(str(folder))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_call(program, model, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
