"""TorchScript: a traced graph with its weights, which PyTorch and LibTorch run without transformers.

PyTorch calls TorchScript deprecated in favour of torch.export, but what runs TorchScript (LibTorch, Triton's PyTorch
backend, TorchServe) is still there, and is whom this target is for.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bertie.export.onnx import plain
from bertie.export.targets.target import TOKENS, Run, Trained
from bertie.train.model import quiet

FILE = "model.pt"


class TorchScript:
    """The model for any number of rows and tokens, on the CPU: tracing writes the device into the graph."""

    imports = "import torch\nfrom tokenizers import Tokenizer\n"
    usage = (
        TOKENS
        + f"""\
model = torch.jit.load("{FILE}")
with torch.inference_mode():
    logits = model(*map(torch.from_numpy, inputs.values())).numpy()
"""
    )

    def write(self, trained: Trained, stage: Path) -> None:
        """See Target."""
        # More than one row and token, so that no operation is traced in a form for single ones; some are padding.
        mask = torch.ones((3, 7), dtype=torch.int64)
        mask[0, 4:] = 0
        examples = tuple(mask if name == "attention_mask" else torch.ones_like(mask) for name in trained.model.inputs)
        with torch.no_grad(), _quiet():
            # What it is to predict is compared afterwards, on more shapes than the tracer's own check looks at.
            traced = torch.jit.trace(plain(trained.model), examples, check_trace=False)  # type: ignore[no-untyped-call]  # no types
            buffer = io.BytesIO()  # written to a file, it would end the whole process where the disk is full
            torch.jit.save(traced, buffer)
        (stage / FILE).write_bytes(buffer.getbuffer())

    def load(self, trained: Trained, stage: Path) -> Run:
        """See Target."""
        with _quiet():
            loaded = torch.jit.load(stage / FILE)  # type: ignore[no-untyped-call]  # no types
        names = trained.model.inputs
        return lambda inputs: loaded(*(torch.from_numpy(inputs[name]) for name in names)).numpy()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away that TorchScript is deprecated, and the tracer's doubts, which the comparison settles."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
