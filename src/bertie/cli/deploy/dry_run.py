"""What commands that speak to AWS print instead of sending it."""

from __future__ import annotations

import json
from typing import Any

from bertie.cli.options import line


def print_requests(facts: dict[str, Any]) -> None:
    """Print the requests of a dry run, each with its arguments."""
    for number, request in enumerate(facts["requests"], 1):
        line(f"{number}. {request['service']} {request['operation']}")
        line(json.dumps(request["arguments"], indent=2, ensure_ascii=False, default=str))
