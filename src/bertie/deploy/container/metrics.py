"""The numbers of a training as SageMaker reads them: from lines of the log, by regular expressions sent with the job.

Printed by the container and searched for by the job's MetricDefinitions; this is the one table of them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from bertie.talk import Talk

MARK = "[metric]"

TRAINING = ("loss", "learning_rate", "tokens_per_s")
QUALITY = ("accuracy", "macro_f1", "mcc", "log_loss")
METRICS = (
    *(f"train:{name}" for name in TRAINING),
    *(f"validation:{name}" for name in QUALITY),
    *(f"test:{name}" for name in QUALITY),
    "test:ece",
    "train:seconds",
)
"""All that are printed. SageMaker takes forty at most."""

NUMBER = r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"


def definitions() -> list[dict[str, str]]:
    """Return the MetricDefinitions of a training job: names, and expressions whose first group is the number."""
    return [{"Name": name, "Regex": f"{re.escape(MARK)}.* {re.escape(name)}={NUMBER}"} for name in METRICS]


def metric_line(part: str, values: Mapping[str, Any]) -> str:
    """Return the line that tells the numbers of one part of the data; empty if there is none among them.

    A number may come with its interval, as {"value": ...}.
    """
    numbers = {f"{part}:{name}": value for name, value in values.items() if f"{part}:{name}" in METRICS}
    told = (f"{name}={value['value'] if isinstance(value, dict) else value:.6g}" for name, value in numbers.items())
    return " ".join([MARK, *told]) if numbers else ""


class MetricTalk(Talk):
    """A voice that also says the numbers, on lines of their own, to stdout."""

    def measured(self, values: Mapping[str, float]) -> None:
        """Print the numbers that SageMaker is told."""
        # The lines of a pass have the validation metrics, all others what an update was like.
        self.tell("validation" if "pass" in values else "train", values)

    def tell(self, part: str, values: Mapping[str, Any]) -> None:
        """Print the numbers of one part of the data."""
        if line := metric_line(part, values):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
