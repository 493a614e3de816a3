"""Where a long text may be cut before it is tokenized, so that the tokens before that place stay as they are.

A megabyte takes a second to tokenize, of which a model then reads 256 tokens. BERT's tokenizers split a text at spaces
and punctuation and around each Chinese character, and read every piece by itself: what follows such a place changes
nothing before it. Of other tokenizers that is not known here, and they get texts whole.
"""

from __future__ import annotations

import json
import re
import string

from tokenizers import Tokenizer

# No other kinds of spaces: some of them are control characters to BERT, which it drops, joining what they part.
SPACES = r" \t\n"
CHINESE = "\u4e00-\u9fff"


class Cutter:
    """Finds such places for the tokenizer of a model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        parts = json.loads(tokenizer.to_str())
        normalizer, splitter = parts.get("normalizer") or {}, parts.get("pre_tokenizer") or {}
        added = parts.get("added_tokens") or []
        self._added = [token["content"] for token in added]
        known = (normalizer.get("type"), splitter.get("type")) == ("BertNormalizer", "BertPreTokenizer")
        chinese = CHINESE if normalizer.get("handle_chinese_chars") else ""
        places = re.compile(f"[{SPACES}{re.escape(string.punctuation)}{chinese}]")
        # Tokens that are looked for in a text that was changed may be elsewhere than they seem.
        self._places = places if known and not any(token["normalized"] for token in added) else None

    def cut(self, text: str, size: int) -> str:
        """Return the start of a text, `size` characters or a few more; all of it where there is no place to cut."""
        if self._places is None or len(text) <= size:
            return text
        # A search that finds nothing for so long is given up: it would read the text, and the next one again.
        for match in self._places.finditer(text, size, 2 * size):
            if not self._within_added(text, match.start()):
                return text[: match.start()]
        return text

    def _within_added(self, text: str, place: int) -> bool:
        """Return whether a token such as [MASK], which is read as one, has this place inside."""
        return any(token in text[max(0, place - len(token) + 1) : place + len(token) - 1] for token in self._added)
