"""Texts become tokens here, the same way in training, evaluation and production.

Reads `tokenizer.json`. Knows nothing of models: what comes out are flat arrays of token ids, cut into windows.
A text has one window; with `long="windows"` a text longer than the model's window has several, which overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from bertie.cut import Cutter
from bertie.errors import BundleDamaged, RequestInvalid, UsageError

Text: TypeAlias = str | tuple[str, str]
"""One text, or a pair of them."""

CHARACTERS = 8
"""Characters for each token that is read, to begin with, of a text that is longer than that."""
CHUNK = 4096
CHUNK_CHARACTERS = 2_000_000
"""Texts, and characters, that go to the tokenizer at once: enough for all cores, little enough to keep memory flat."""


@dataclass(frozen=True)
class TextLimits:
    """How much of a text the model sees."""

    max_tokens: int
    """Length of a window, special tokens included."""
    long: Literal["truncate", "windows"] = "truncate"
    """What happens to a longer text: cut (and counted), or read in several windows whose logits are averaged."""
    overlap: int = 0
    """Tokens that two neighbouring windows share."""
    max_windows: int = 32
    """A text with more windows than this is cut there (and counted), so that one huge text cannot take all memory."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of many texts, one window after the other in flat arrays."""

    ids: NDArray[np.int32]  # [tokens]
    types: NDArray[np.int8]  # [tokens], 1 in the second text of a pair
    starts: NDArray[np.int64]  # [windows + 1], where each window begins
    rows: NDArray[np.int64]  # [windows], the text that a window belongs to, ascending
    truncated: NDArray[np.bool_]  # [rows], whether something of the text was cut off

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens in each window."""
        return np.diff(self.starts)

    def windows(self, chosen: NDArray[np.int64]) -> Tokens:
        """Return some windows, each as a text of its own."""
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(self.starts[chosen] - starts[:-1], lengths) + np.arange(starts[-1])
        rows = np.arange(len(chosen))
        return Tokens(self.ids[places], self.types[places], starts, rows, self.truncated[self.rows[chosen]])

    def pad(self, windows: NDArray[np.int64], pad_id: int) -> dict[str, NDArray[np.int64]]:
        """Return the model's inputs for some windows, each [windows, longest of these windows]."""
        lengths = self.lengths[windows]
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        places = (self.starts[windows][:, None] + np.arange(mask.shape[1]))[mask]
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        types = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = self.ids[places]
        types[mask] = self.types[places]
        return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": types}


class TextEncoder:
    """Turns texts into Tokens with the tokenizer of a model and the limits it was trained with."""

    def __init__(self, tokenizer: Tokenizer, limits: TextLimits, pad_id: int = 0) -> None:
        self.limits = limits
        self.pad_id = pad_id
        self._room = limits.max_tokens - tokenizer.num_special_tokens_to_add(is_pair=True)
        if self._room < 4 or not 0 <= limits.overlap <= self._room // 2 or limits.max_windows < 1:
            raise UsageError(
                f"a window of {limits.max_tokens} tokens with {limits.overlap} shared by neighbours cannot work.",
                expected="at least 8 tokens, and at most half of them shared",
                hint="raise --max-tokens or lower --overlap",
            )
        self._cutter = Cutter(tokenizer)
        self._most = limits.max_windows if limits.long == "windows" else 1
        # Two copies, because cutting is a state of the tokenizer and threads share it.
        self._whole = _copy(tokenizer)
        self._whole.no_truncation()
        self._cutting = _copy(tokenizer)
        self._cutting.enable_truncation(limits.max_tokens, stride=limits.overlap if limits.long == "windows" else 0)

    @classmethod
    def from_file(cls, path: Path, limits: TextLimits, pad_id: int = 0) -> TextEncoder:
        """Read a `tokenizer.json`. Raises BundleDamaged if it is none."""
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more specific
            raise BundleDamaged(f"{path} is not a tokenizer that can be read: {error}.") from error
        return cls(tokenizer, limits, pad_id)

    @property
    def identity(self) -> str:
        """All that decides, beside the texts, which tokens come out: the tokenizer and the limits, as JSON."""
        return json.dumps([self._whole.to_str(), asdict(self.limits)])

    def encode(self, texts: Sequence[Text]) -> Tokens:
        """Return the tokens of all texts. Raises RequestInvalid for a text that is no valid Unicode."""
        return join(self._flatten(self._windows(chunk)) for chunk in _chunks(texts))

    def count(self, texts: Sequence[Text]) -> NDArray[np.int64]:
        """Return how many tokens each text has as a whole, special tokens included."""
        counts: list[int] = []
        for chunk in _chunks(texts):
            counts.extend(len(encoding) for encoding in self._whole.encode_batch_fast(chunk))
        return np.asarray(counts, dtype=np.int64)

    def _windows(self, texts: list[Text]) -> list[list[Encoding]]:
        """Return the windows of each text; of a long one more than are read, but perhaps not all."""
        for text in texts:
            refuse_broken(text)
        if self.limits.long == "windows" and any(isinstance(text, tuple) for text in texts):
            return [self._pair_windows(text) for text in texts]
        size = CHARACTERS * self.limits.max_tokens * (self._most + 1)
        starts = [text if isinstance(text, tuple) else self._cutter.cut(text, size) for text in texts]
        # A batch would let go of the interpreter; where another thread takes it, having it back takes longer than one
        # text does.
        one = len(starts) == 1
        encodings = [self._encode_one(starts[0])] if one else self._cutting.encode_batch_fast(starts)
        windows = [[encoding, *encoding.overflowing] for encoding in encodings]
        for place, (text, start) in enumerate(zip(texts, starts, strict=True)):
            # Only a start with more windows than are read says all of its text.
            if start != text and len(windows[place]) <= self._most:
                windows[place] = self._longer(str(text), 8 * size)
        return windows

    def _longer(self, text: str, size: int) -> list[Encoding]:
        """Return the windows of a text whose start was too short, or as many as are read and one."""
        while True:
            start = self._cutter.cut(text, size)
            encoding = self._encode_one(start)
            windows = [encoding, *encoding.overflowing]
            if len(windows) > self._most or start == text:
                return windows
            size *= 8

    def _encode_one(self, text: Text) -> Encoding:
        return self._cutting.encode(text) if isinstance(text, str) else self._cutting.encode(*text)

    def _pair_windows(self, text: Text) -> list[Encoding]:
        """Slide over the second text of a pair; the first stands in every window and may fill half of it."""
        if isinstance(text, str):
            encoding = self._encode_one(text)
            return [encoding, *encoding.overflowing]
        first, second = (self._whole.encode(part, add_special_tokens=False) for part in text)
        first.truncate(self._room // 2)
        size = self._room - len(first.ids)
        second.truncate(size, stride=min(self.limits.overlap, size // 2))
        parts = [second, *second.overflowing]
        return [self._whole.post_process(first, part) for part in parts]

    def _flatten(self, texts: list[list[Encoding]]) -> Tokens:
        # tokenizers gives ids as lists alone: of one chunk at a time, and gone once they are in the array.
        most = self._most
        windows = [window for windows in texts for window in windows[:most]]
        counts = [min(len(windows), most) for windows in texts]
        lengths = [len(window) for window in windows]
        total = sum(lengths)
        return Tokens(
            ids=np.fromiter(chain.from_iterable(window.ids for window in windows), np.int32, total),
            types=np.fromiter(chain.from_iterable(window.type_ids for window in windows), np.int8, total),
            starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            rows=np.repeat(np.arange(len(texts)), counts),
            truncated=np.asarray([len(windows) > most for windows in texts], dtype=np.bool_),
        )


def by_length(
    lengths: NDArray[np.int64], max_rows: int, max_cells: int, enough: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield batches of windows, longest first: each at most `max_rows` windows and `max_cells` padded tokens.

    A window longer than `max_cells` is a batch of its own. A batch of at least `enough` tokens ends where a shorter
    window comes, so that nothing is padded. Longest first, so that a batch too large for the memory shows at once.
    """
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    start = 0
    while start < len(order):
        longest = max(1, int(ordered[start]))
        rows = max(1, min(max_rows, max_cells // longest, len(order) - start))
        if enough is not None and ordered[start + rows - 1] < longest:
            same = int(np.searchsorted(-ordered[start : start + rows], -longest, side="right"))
            least = -(-enough // longest)
            rows = min(rows, max(same, least))
        yield order[start : start + rows]
        start += rows


def pooled(logits: NDArray[np.float32], rows: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Return one row of logits a text, the mean over its windows: from [windows, labels] to [rows, labels]."""
    if len(rows) == count:  # a window for each text
        return logits
    sums = np.zeros((count, logits.shape[1]), dtype=np.float32)
    np.add.at(sums, rows, logits)
    counts: NDArray[np.float32] = np.bincount(rows, minlength=count).astype(np.float32)
    return np.asarray(sums / counts[:, None], dtype=np.float32)


def refuse_broken(text: Text) -> None:
    """Raise RequestInvalid if a text holds half a character (a lone surrogate) and so is no Unicode text."""
    for part in (text,) if isinstance(text, str) else text:
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise RequestInvalid(
                f"a text is not valid Unicode: character {error.start} is a lone surrogate.",
                expected="text that can be written as UTF-8",
            ) from None


def _chunks(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Yield the texts in order, as many at a time as the tokenizer is to have at once."""
    chunk: list[Text] = []
    characters = 0
    for text in texts:
        size = len(text) if isinstance(text, str) else sum(map(len, text))
        if chunk and (len(chunk) == CHUNK or characters + size > CHUNK_CHARACTERS):
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += size
    if chunk:
        yield chunk


def join(parts: Iterable[Tokens]) -> Tokens:
    """Put parts together in buffers that grow, so that the tokens never stand in memory twice."""
    parts = iter(parts)
    first, second = next(parts, None), next(parts, None)
    if first is not None and second is None:
        return first
    parts = chain((part for part in (first, second) if part is not None), parts)
    ids, types, starts, rows, truncated = bytearray(), bytearray(), bytearray(bytes(8)), bytearray(), bytearray()
    tokens = texts = 0
    for part in parts:
        ids += part.ids.tobytes()
        types += part.types.tobytes()
        starts += (part.starts[1:] + tokens).tobytes()
        rows += (part.rows + texts).tobytes()
        truncated += part.truncated.tobytes()
        tokens += int(part.starts[-1])
        texts += len(part.truncated)
    return Tokens(
        ids=np.frombuffer(ids, np.int32),
        types=np.frombuffer(types, np.int8),
        starts=np.frombuffer(starts, np.int64),
        rows=np.frombuffer(rows, np.int64),
        truncated=np.frombuffer(truncated, np.bool_),
    )


def _copy(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    return copy
