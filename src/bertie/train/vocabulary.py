"""A vocabulary cut to what some texts need, with every fall-back kept, and the embeddings cut with it.

The given texts are read as before, piece by piece, and a text that could be read before can still be read:

- WordPiece takes the longest piece that fits: the pieces that a text used are still the longest ones. All pieces of a
  single character stay, so that any other word is spelled.
- BPE merges by rank: with a piece stay all from which it is merged, so each text goes through the same merges. All
  pieces that no merge makes (of a byte-level vocabulary, the bytes) stay.
- Unigram takes the likeliest way: that of a text is still there, and none is new. All single characters, the pieces of
  bytes, and the unlikeliest piece, from which the library derives the price of an unknown one, stay.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tokenizers import Tokenizer
from torch import nn

from bertie import disk
from bertie.errors import BundleDamaged, ExportError, UsageError
from bertie.tokens import Text
from bertie.train.checkpoint import load, save_weights

Document: TypeAlias = dict[str, Any]
"""A `tokenizer.json`."""

CHUNK = 4096
TOKENIZER = "tokenizer.json"
COPIED = ("tokenizer_config.json", "special_tokens_map.json")
"""What goes along beside weights and tokenizer; vocab.txt and its like would name pieces that are gone."""

POSITIONS_AFTER_PADDING = ("roberta", "camembert")
"""Parts of the names of families whose positions begin after the number of the padding, which must not change."""


@dataclass(frozen=True)
class Trimmed:
    """What trimming gave: pieces of the vocabulary, and bytes of the weights."""

    kept: int
    before: int
    bytes: int
    bytes_before: int


def trim(checkpoint: Path, texts: Sequence[Text], out: Path, *, frequent: int = 0) -> Trimmed:
    """Write a copy of a sequence classifier whose vocabulary holds what `texts` need, and every fall-back.

    `frequent` pieces with the lowest numbers stay too, used or not: all three kinds of vocabulary are written roughly
    in order of frequency. The copy appears whole or not at all, in the place of an older one; transformers loads it.
    Raises UsageError for a vocabulary that cannot be cut safely, ExportError if a text would be read otherwise.
    """
    model = load(checkpoint)
    document = _read(checkpoint / TOKENIZER)
    config = model.classifier.config
    ids = [value for name, value in config.to_dict().items() if name.endswith("token_id") and isinstance(value, int)]
    least = frequent
    if any(part in config.model_type for part in POSITIONS_AFTER_PADDING):
        least = max(least, config.pad_token_id + 1)
    cut, rows = cut_tokenizer(document, texts, frequent=least, keep=ids)
    new = {row: place for place, row in enumerate(rows)}
    before = config.vocab_size
    _cut_embeddings(model.classifier, rows, new)
    for name, value in config.to_dict().items():
        if name.endswith("token_id") and isinstance(value, int):
            setattr(config, name, new.get(value))
    with disk.folder(out, replace=True) as stage:
        save_weights(model, stage)
        disk.write_text(stage / TOKENIZER, json.dumps(cut, ensure_ascii=False))
        for name in COPIED:
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, stage / name)
        _renumber_tokenizer_config(stage / "tokenizer_config.json", new)
    return Trimmed(len(rows), before, _weight_bytes(out), _weight_bytes(checkpoint))


def cut_tokenizer(
    document: Document, texts: Sequence[Text], *, frequent: int = 0, keep: Iterable[int] = ()
) -> tuple[Document, list[int]]:
    """Return the smaller tokenizer, and for each of its ids the id that the piece had before.

    `keep` are ids that stay whatever the texts need. Raises UsageError, ExportError as `trim` does.
    """
    kind = KINDS.get(str(document["model"].get("type")))
    if kind is None:
        raise UsageError(
            f"a vocabulary of the kind {document['model'].get('type')!r} cannot be trimmed.",
            expected=f"one of {', '.join(KINDS)}",
        )
    whole = _tokenizer(document)
    pieces = kind(document["model"], whole)
    added = {token["content"]: int(token["id"]) for token in document["added_tokens"]}
    used = {id_ for ids in _encoded(whole, texts) for id_ in ids} | {*keep}
    wanted = {piece for piece, id_ in pieces.ids.items() if id_ in used or id_ < frequent or piece in added}
    kept = sorted(pieces.closed(wanted), key=pieces.ids.__getitem__)
    # Tokens that are not in the model's own vocabulary are numbered after it when the file is read.
    beside = sorted((piece for piece in added if piece not in pieces.ids), key=added.__getitem__)
    rows = [pieces.ids[piece] for piece in kept] + [added[piece] for piece in beside]
    cut = _renumbered(document, {row: place for place, row in enumerate(rows)}) | {"model": pieces.cut(kept)}
    _compare(whole, _tokenizer(cut), rows, texts)
    return cut, rows


class _WordPiece:
    """Pieces of words; those that do not begin a word have a prefix."""

    def __init__(self, model: Document, whole: Tokenizer) -> None:
        self.model, self.ids = model, dict(model["vocab"])
        self._prefix = model["continuing_subword_prefix"]
        self._whole, self._beside = whole, _never_matched(whole, model["unk_token"])

    def closed(self, wanted: set[str]) -> set[str]:
        """Return the pieces that are to stay with these."""
        single = {piece for piece in self.ids if len(piece.removeprefix(self._prefix)) == 1}
        _refuse_uncovered(
            piece
            for piece in self.ids.keys() - self._beside
            if not single.issuperset(self._spelled(piece)) and self._can_be_used(piece)
        )
        return wanted | single | {self.model["unk_token"]}

    def _spelled(self, piece: str) -> list[str]:
        inner = piece.startswith(self._prefix)
        characters = piece.removeprefix(self._prefix)
        return [self._prefix * (inner or place > 0) + character for place, character in enumerate(characters)]

    def _can_be_used(self, piece: str) -> bool:
        """Return False for pieces that no word can hold, as [unused7], which is cut at its brackets before."""
        splitter = self._whole.pre_tokenizer
        return splitter is None or len(splitter.pre_tokenize_str(piece.removeprefix(self._prefix))) == 1

    def cut(self, kept: list[str]) -> Document:
        return self.model | {"vocab": {piece: place for place, piece in enumerate(kept)}}


class _BPE:
    """Pieces that are merged from two others, in a fixed order."""

    def __init__(self, model: Document, _: Tokenizer) -> None:
        self.model, self.ids = model, dict(model["vocab"])
        self._prefix = model.get("continuing_subword_prefix") or ""
        self._merges = [
            tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]
        ]

    def _made(self, merge: tuple[str, ...]) -> str:
        return merge[0] + merge[1].removeprefix(self._prefix)

    def closed(self, wanted: set[str]) -> set[str]:
        """Return the pieces that are to stay with these."""
        parts: dict[str, set[str]] = defaultdict(set)
        for merge in self._merges:
            parts[self._made(merge)].update(merge)
        found = self.ids.keys() - parts.keys()
        left = [*wanted]
        while left:
            piece = left.pop()
            found.add(piece)
            left.extend(parts[piece] - found)
        return found

    def cut(self, kept: list[str]) -> Document:
        known = {*kept}
        merges = [
            merge
            for merge, parts in zip(self.model["merges"], self._merges, strict=True)
            if known.issuperset((*parts, self._made(parts)))
        ]
        return self.model | {"vocab": {piece: place for place, piece in enumerate(kept)}, "merges": merges}


class _Unigram:
    """Pieces with a logarithm of how likely each is."""

    def __init__(self, model: Document, whole: Tokenizer) -> None:
        self.model = model
        self._beside = _never_matched(whole)
        self.ids = {piece: place for place, (piece, _) in enumerate(model["vocab"])}
        self._scores = dict(model["vocab"])

    def closed(self, wanted: set[str]) -> set[str]:
        """Return the pieces that are to stay with these."""
        stay = {piece for piece in self.ids if len(piece) == 1}
        _refuse_uncovered(
            piece for piece in self.ids.keys() - wanted if not stay.issuperset(piece) and not _byte(piece)
        )
        stay |= {piece for piece in self.ids if _byte(piece)}
        unlikeliest = min(self._scores, key=self._scores.__getitem__)
        unknown = self.model.get("unk_id")
        return wanted | stay | {unlikeliest} | ({self.model["vocab"][unknown][0]} if unknown is not None else set())

    def cut(self, kept: list[str]) -> Document:
        unknown = self.model.get("unk_id")
        place = None if unknown is None else kept.index(self.model["vocab"][unknown][0])
        return self.model | {"vocab": [[piece, self._scores[piece]] for piece in kept], "unk_id": place}


KINDS: dict[str, Callable[[Document, Tokenizer], _WordPiece | _BPE | _Unigram]] = {
    "WordPiece": _WordPiece,
    "BPE": _BPE,
    "Unigram": _Unigram,
}


def _never_matched(whole: Tokenizer, *others: str) -> set[str]:
    """Return the pieces that stand in no word: they are cut out of a text before, or stand for what is unknown."""
    return {token.content for token in whole.get_added_tokens_decoder().values()} | {*others}


def _byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")


def _refuse_uncovered(pieces: Iterable[str]) -> None:
    """Raise UsageError if there are pieces with characters that no single piece can spell.

    A word with such a character could be read by one way of cutting it alone, which may need pieces that go.
    Vocabularies that were learned from texts have none: their trainers begin with all single characters.
    """
    found = sorted(pieces)
    if found:
        raise UsageError(
            f"this vocabulary cannot be trimmed: {len(found)} of its pieces, as {found[0]!r}, hold characters that "
            "have no piece of their own, so words with them could not be read any more.",
            hint="leave the vocabulary whole",
        )


def _read(path: Path) -> Document:
    try:
        document: Document = json.loads(path.read_text(encoding="utf-8"))
        _tokenizer(document)
    except Exception as error:  # the library raises nothing more specific
        raise BundleDamaged(f"{path} is not a tokenizer that can be read: {error}.") from error
    return document


def _tokenizer(document: Document) -> Tokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _encoded(tokenizer: Tokenizer, texts: Sequence[Text]) -> Iterator[list[int]]:
    for start in range(0, len(texts), CHUNK):
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + CHUNK])):
            yield encoding.ids
    yield tokenizer.encode("").ids  # what stands around every text


def _compare(whole: Tokenizer, cut: Tokenizer, rows: Sequence[int], texts: Sequence[Text]) -> None:
    """Raise ExportError unless every text, and every piece of the vocabulary, is what it was."""
    names = {id_: piece for piece, id_ in whole.get_vocab().items()}
    same = cut.get_vocab() == {names[row]: place for place, row in enumerate(rows)}
    pairs = zip(_encoded(whole, texts), _encoded(cut, texts), strict=True)
    if not same or any(before != [rows[id_] for id_ in after] for before, after in pairs):
        raise ExportError("the trimmed tokenizer would read the texts otherwise than the whole one.")


def _renumbered(part: Any, new: Mapping[int, int], key: str = "") -> Any:
    """Return a copy of a `tokenizer.json` with the new ids; the model, which holds most of them, has its own way."""
    if isinstance(part, dict):
        return {name: value if name == "model" else _renumbered(value, new, name) for name, value in part.items()}
    if key in {"sep", "cls"}:  # BertProcessing and RobertaProcessing: [token, id]
        return [part[0], new[part[1]]]
    if isinstance(part, list):
        return [_renumbered(value, new, key) for value in part]
    # "id" in a template is the token's name, a string
    return new[part] if key in {"id", "ids", "pad_id"} and isinstance(part, int) else part


def _renumber_tokenizer_config(path: Path, new: Mapping[int, int]) -> None:
    if not path.is_file():
        return
    facts = json.loads(path.read_text(encoding="utf-8"))
    if "added_tokens_decoder" in facts:
        facts["added_tokens_decoder"] = {
            str(new[int(id_)]): token for id_, token in facts["added_tokens_decoder"].items()
        }
    disk.write_text(path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def _cut_embeddings(model: Any, rows: list[int], new: Mapping[int, int]) -> None:
    whole = model.get_input_embeddings()
    cut = nn.Embedding(len(rows), whole.embedding_dim, padding_idx=new.get(whole.padding_idx), dtype=whole.weight.dtype)
    with torch.no_grad():
        cut.weight.copy_(whole.weight[rows])
    model.set_input_embeddings(cut)
    model.config.vocab_size = len(rows)


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
