"""`bertie check`: the data check, with what the base's tokenizer would cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertie.config import DataSettings, TrainSettings
from bertie.data.check import Problem, check
from bertie.data.examples import Examples
from bertie.errors import BertieError
from bertie.pipeline.load_data import read_files
from bertie.talk import Talk
from bertie.train.base_models import resolve
from bertie.train.limits import text_encoder, text_limits


def check_data(paths: Sequence[Path], settings: DataSettings, train: TrainSettings, talk: Talk) -> dict[str, Any]:
    """Check one file, or several that are the splits of one data set; return what `--json` prints.

    Problems are returned, not raised: this command shows all there are.
    """
    files, dropped = read_files(paths, settings)
    report = check(files)
    problems, tokens = _lengths(files, train, talk)
    answer = report.as_dict() | {"tokens": tokens, "dropped": dropped, "columns": files[0].columns}
    answer["problems"] += [vars(problem) for problem in problems]
    return answer


def _lengths(files: Sequence[Examples], train: TrainSettings, talk: Talk) -> tuple[list[Problem], dict[str, int]]:
    """Count tokens with the base's own tokenizer, where it can be had."""
    try:
        base = resolve(train.base)
        encoder = text_encoder(base, text_limits(base, train))
    except BertieError as error:
        talk.say(f"lengths in tokens are left out: {error.what}")
        return [], {}
    problems, lengths = [], []
    for examples in files:
        tokens = encoder.encode(examples.texts)
        counts = np.bincount(tokens.rows, weights=tokens.lengths, minlength=len(examples))
        longer = np.flatnonzero(tokens.truncated | (np.bincount(tokens.rows, minlength=len(examples)) > 1))
        counts[longer] = encoder.count([examples.texts[int(row)] for row in longer])
        lengths.append(counts)
        rows = [examples.lines[row] for row in np.flatnonzero(tokens.truncated)]
        if rows:
            most = encoder.limits.max_tokens
            message = (
                f"{len(rows)} texts are longer than {most} tokens and would be cut; --long windows reads them whole."
            )
            problems.append(Problem("truncated", "warning", examples.name, len(rows), rows[:20], message))
    if not sum(map(len, lengths)):
        return problems, {}
    low, middle, high, longest = np.percentile(np.concatenate(lengths), [5, 50, 95, 100])
    return problems, {"p5": int(low), "median": int(middle), "p95": int(high), "longest": int(longest)}
