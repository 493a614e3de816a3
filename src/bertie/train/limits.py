"""How much of a text an encoder can read, and its tokenizer. Knows files, not PyTorch."""

from __future__ import annotations

from typing import Any

from bertie.config import TrainSettings
from bertie.errors import UsageError
from bertie.tokens import TextEncoder, TextLimits
from bertie.train.base_models import Base


def text_limits(base: Base, settings: TrainSettings) -> TextLimits:
    """Return how much of a text this encoder is to see. Raises UsageError where more is asked than it can."""
    positions = most_tokens(base.config)
    if settings.max_tokens > positions:
        raise UsageError(
            f"--max-tokens {settings.max_tokens} is more than {base.name} can read at once.",
            expected=f"at most {positions}",
            hint=f"leave it out to take all {positions}, and add --long windows for longer texts",
        )
    return TextLimits(
        max_tokens=settings.max_tokens or positions,
        long=settings.long,
        overlap=settings.overlap if settings.long == "windows" else 0,
        max_windows=settings.max_windows,
    )


def most_tokens(config: dict[str, Any]) -> int:
    """Return how many tokens a model with this `config.json` can read at once."""
    positions = int(config.get("max_position_embeddings", 512))
    if "roberta" in config.get("model_type", "") or config.get("model_type") == "camembert":
        positions -= int(config.get("pad_token_id", 1)) + 1  # these count positions from after the padding's number
    return positions


def text_encoder(base: Base, limits: TextLimits) -> TextEncoder:
    """Return the tokenizer of an encoder with these limits."""
    pad_id = base.config.get("pad_token_id")
    return TextEncoder.from_file(base.folder / "tokenizer.json", limits, 0 if pad_id is None else int(pad_id))
