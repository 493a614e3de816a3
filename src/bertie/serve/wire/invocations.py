"""POST /invocations: SageMaker's content types, the bodies of the old sample, and those of the Hugging Face toolkit.

JSON becomes JSON. Lines become lines, one for each, because SageMaker's batch transform puts them together again.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bertie.errors import RequestError, RequestInvalid, RequestUnacceptable, RequestUnsupported
from bertie.scores import Prediction
from bertie.serve.wire import attributes
from bertie.serve.wire.exchange import (
    JSON,
    Ask,
    Found,
    Limits,
    Reply,
    checked,
    decoded,
    dump,
    parse,
    refuse_many,
    text_of,
)
from bertie.tokens import Text

SHAPES = '"text", ["text", ...], {"text": "..."} or {"inputs": ...}'
LINES, CSV, PLAIN = "application/jsonlines", "text/csv", "text/plain"
ALIASES = {
    # curl -d sends the form type if told nothing else; what is inside is JSON all the same.
    "": JSON,
    "application/x-www-form-urlencoded": JSON,
    "application/jsonl": LINES,
    "application/x-jsonlines": LINES,
    "application/x-ndjson": LINES,
}
COLUMNS = ("text", "inputs")
"""Names that the column of texts may have in a CSV with a header; the second is the Hugging Face toolkit's."""


def read(body: bytes, content_type: str, accept: str, limits: Limits, custom: str = "") -> Ask:
    """Return the texts of a request, and how it is answered. `custom` holds SageMaker's custom attributes.

    Raises RequestUnsupported for another content type, RequestUnacceptable for another kind of answer, RequestError for
    a body that does not parse, RequestTooLarge for too many texts, RequestInvalid for another shape or an empty text.
    """
    kind = _media_type(content_type)
    kind = ALIASES.get(kind, kind)
    reader = _READERS.get(kind)
    if reader is None:
        raise RequestUnsupported(f"the content type {kind[:100]!r} is not known here.", expected=" or ".join(_READERS))
    wanted, raw = _accepted(accept, CSV if kind == CSV else JSON if kind == JSON else LINES)
    wishes = attributes.read(custom)
    raw = raw or wishes.raw
    given = reader(body, limits)
    texts = checked(given.texts, limits, SHAPES)
    if wishes.best and not given.parameters:
        if wanted != JSON:
            raise RequestUnacceptable("there are best labels in JSON alone.", expected=f"Accept: {JSON}")
        top = {"top_k": wishes.top_k, "function_to_apply": "none" if raw else None}
        return Ask(texts, _as_pipeline(replace(given, parameters=top)))
    if given.parameters and wanted == JSON and not raw:
        return Ask(texts, _as_pipeline(given))
    return Ask(texts, _writer(wanted, raw=raw, given=given))


def read_hub(body: bytes, limits: Limits) -> Ask:
    """Return the texts of a request as the Hugging Face hub's API takes it: all labels of each text, the best first."""
    given = _json(body, limits)
    parameters = {"top_k": None} | given.parameters if isinstance(given.parameters, dict) else given.parameters
    texts = checked(given.texts, limits, SHAPES)
    return Ask(texts, _as_pipeline(replace(given, single=False, parameters=parameters or {"top_k": None})))


@dataclass(frozen=True)
class _Given:
    """What a body held."""

    texts: list[Text]
    single: bool = False
    """Whether it was one text, and no list of one."""
    header: bool = False
    """Whether a CSV had a first row of names."""
    parameters: Any = None
    """Those of the Hugging Face toolkit."""
    in_list: bool = False
    """Whether the answer is a list all the same, as that toolkit's is."""


def _json(body: bytes, limits: Limits) -> _Given:
    value = parse(body, SHAPES)
    parameters = None
    hugging = isinstance(value, dict) and "inputs" in value
    if hugging:
        value, parameters = value["inputs"], value.get("parameters")
    if isinstance(value, list):
        refuse_many(value, limits)
        texts = [text_of(item, limits, f"text {place}", SHAPES) for place, item in enumerate(value)]
        return _Given(texts, parameters=parameters)
    # The Hugging Face toolkit answers with a list, also where `inputs` is one text.
    return _Given([text_of(value, limits, "the body", SHAPES)], True, parameters=parameters, in_list=hugging)


def _lines(body: bytes, limits: Limits) -> _Given:
    texts, lines = [], _split(body)
    refuse_many(lines, limits)
    for number, line in enumerate(lines, 1):
        value = parse(line, 'a JSON value on each line: "text" or {"text": "..."}')
        if isinstance(value, dict) and "inputs" in value:
            value = value["inputs"]
        texts.append(text_of(value, limits, f"line {number}", '"text", {"text": "..."} or {"inputs": "..."}'))
    return _Given(texts)


def _plain(body: bytes, limits: Limits) -> _Given:
    if limits.pairs:
        raise RequestUnsupported("this model reads pairs of texts, which plain text cannot hold.", expected=JSON)
    return _Given(list(_split(body)))


def _csv(body: bytes, limits: Limits) -> _Given:
    # A limit of the whole process, which is below what a text may have; no field is larger than the body.
    csv.field_size_limit(max(csv.field_size_limit(), len(body)))
    try:
        reader = csv.reader(io.StringIO(decoded(body), newline=""), strict=True)
        # A header, and one more than there may be.
        rows = list(itertools.islice((row for row in reader if row), limits.max_texts + 2))
    except csv.Error:
        raise RequestError("the body is not CSV.", expected="a quote that begins a field also ends it") from None
    names = [name.strip().lower() for name in rows[0]] if rows else []
    column = next((names.index(name) for name in COLUMNS if name in names), None)
    pair = names.index("text_pair") if "text_pair" in names and column is not None else 1
    width = len(names) if column is not None else 2 if limits.pairs else 1
    texts: list[Text] = []
    for number, row in enumerate(rows[column is not None :], 1):
        if len(row) != width or (limits.pairs and width < 2):
            raise RequestInvalid(
                f"row {number} has {len(row)} fields.",
                expected=f"{max(width, 1 + limits.pairs)}",
                hint="put quotes around a text with a comma in it",
            )
        texts.append((row[column or 0], row[pair]) if limits.pairs else row[column or 0])
    return _Given(texts, header=column is not None)


_READERS: dict[str, Callable[[bytes, Limits], _Given]] = {JSON: _json, LINES: _lines, CSV: _csv, PLAIN: _plain}


def _split(body: bytes) -> list[str]:
    """Return the lines. An empty one in their midst is one, so that answers and lines stay in step."""
    lines = decoded(body).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _accepted(accept: str, usual: str) -> tuple[str, bool]:
    """Return the kind of answer that a client takes, and whether it is to hold the model's raw scores."""
    offers = [part.strip() for part in accept.split(",") if part.strip()] or ["*/*"]
    for offer in sorted(offers, key=_weight, reverse=True):
        kind = _media_type(offer)
        kind = ALIASES.get(kind, kind)
        parameters = {part.strip().lower() for part in offer.split(";")[1:]}
        raw = "output=logits" in parameters
        if not _weight(offer):
            continue
        if kind in {"*/*", "application/*"}:
            return usual, raw
        if kind in {JSON, LINES, CSV} or (kind == PLAIN and not raw):
            return kind, raw
    expected = f"{JSON}, {LINES}, {CSV} or, for labels alone, {PLAIN}"
    raise RequestUnacceptable(f"there is no answer of the kind {accept[:100]!r}.", expected=expected)


def _weight(offer: str) -> float:
    """Return how much a client likes an offer, its `q` (RFC 9110, 12.4.2); 1 where it says nothing that makes sense."""
    for part in offer.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name.lower() == "q":
            with contextlib.suppress(ValueError):
                return min(max(float(value), 0.0), 1.0)
    return 1.0


def _writer(kind: str, *, raw: bool, given: _Given) -> Callable[[Found], Reply]:
    def write(found: Found) -> Reply:
        if kind == CSV:
            return Reply(_csv_of(found, raw=raw, header=given.header), CSV)
        if kind == PLAIN:
            return Reply(
                "".join(f"{_labels_of(one)}\n" for one in found.predictions).encode(), f"{PLAIN}; charset=utf-8"
            )
        # The old sample answered with a list of rows of scores, also where it was asked for one text.
        answers = found.logits.tolist() if raw else [one.as_dict() for one in found.predictions]
        if kind == LINES:
            return Reply(b"".join(dump(one) + b"\n" for one in answers), LINES)
        return Reply(dump(answers[0] if given.single and not given.in_list and not raw else answers))

    return write


def _labels_of(one: Prediction) -> str:
    return str(one.label) if one.labels is None else ";".join(one.labels)


def _csv_of(found: Found, *, raw: bool, header: bool) -> bytes:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    if header:
        writer.writerow(found.labels if raw else ("label", "score"))
    if raw:
        writer.writerows(found.logits.tolist())
    for one in () if raw else found.predictions:
        writer.writerow((_labels_of(one), one.score))
    return target.getvalue().encode()


def _as_pipeline(given: _Given) -> Callable[[Found], Reply]:
    """Return how a request with `parameters` is answered: as transformers' pipeline does."""
    wanted = given.parameters
    if not isinstance(wanted, dict) or wanted.keys() - {"top_k", "function_to_apply", "truncation"}:
        raise RequestInvalid(
            "the parameters hold something that is not known here.", expected="top_k, function_to_apply, truncation"
        )
    top, function = wanted.get("top_k", 1), wanted.get("function_to_apply")
    if not (top is None or (isinstance(top, int) and not isinstance(top, bool) and top > 0)):
        raise RequestInvalid("top_k is no number of labels.", expected="a whole number from 1, or null for all labels")
    if function not in {None, "none"}:
        raise RequestInvalid(
            "the model's scores have one meaning, which function_to_apply cannot change.",
            expected='null for probabilities, "none" for the raw scores',
        )

    def write(found: Found) -> Reply:
        rows = []
        for place, one in enumerate(found.predictions):
            raw = dict(zip(found.labels, found.logits[place].tolist(), strict=True))
            scores = raw if function == "none" else one.scores
            best = sorted(scores, key=lambda label: scores[label], reverse=True)[:top]
            rows.append([{"label": label, "score": scores[label]} for label in best])
        # As the pipeline: labels beside each other for one text, and without top_k the best one of each.
        flat = "top_k" not in wanted
        answer: Any = [row[0] for row in rows] if flat else rows[0] if given.single else rows
        return Reply(dump(answer))

    return write
