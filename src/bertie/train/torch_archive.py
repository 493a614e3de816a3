"""Weights out of PyTorch's own files, without running what else is in them.

`torch.save` writes a pickle, which can hold any call of any function; `torch.load(weights_only=True)` builds tensors
and plain containers alone. A TorchScript file is a program with weights. `torch.jit.load` would compile it and run its
`__setstate__`, and PyTorch calls that unsafe for files of others: here its list of attributes is read, by an unpickler
that knows tensors and containers and takes every class for an empty shell; its code is never looked at.
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bertie.errors import BundleDamaged

LARGEST = 16 * 1024**3
"""Bytes that a file of weights may unpack to."""

TYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
NOT_WEIGHTS = "only tensors in plain containers, as torch.save(model.state_dict()) writes them"


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by their names in the model. Raises BundleDamaged for anything else in it."""
    if path.suffix == ".safetensors":
        found: Any = _from_safetensors(path)
    elif is_torchscript(path):
        found = _from_torchscript(path)
    else:
        found = _from_pickle(path)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise BundleDamaged(f"{path} holds no weights by name.", expected=NOT_WEIGHTS)
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a program of TorchScript."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _from_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleDamaged(f"{path} is not a whole file of weights: {error}.", hint="copy it again") from error


def _from_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise BundleDamaged(
            f"{path} is not a file of weights, or it holds more than weights; nothing of it was run.",
            expected=NOT_WEIGHTS,
            hint="load it where you trust it, and save model.state_dict() alone",
        ) from error


def _from_torchscript(path: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise BundleDamaged(f"{path} would unpack to more than {LARGEST >> 30} GiB.")
            entry = next(
                (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")), ""
            )
            root = entry.removesuffix("data.pkl")
            with archive.open(entry) as file:
                module = _Reader(file, lambda key: archive.read(f"{root}data/{key}")).load()
            return dict(_parameters(module, ""))
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        LookupError,
        EOFError,
        ValueError,
        TypeError,
        RuntimeError,
    ) as error:
        raise BundleDamaged(
            f"{path} is a TorchScript file whose weights cannot be read: {error}.",
            hint="load it where you trust it, and save model.state_dict() alone",
        ) from error


class _Shell:
    """Stands for a class of the program: keeps its attributes, and has no behaviour."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _Reader(pickle.Unpickler):
    """Reads the attributes of a TorchScript module: https://docs.python.org/3/library/pickle.html#restricting-globals."""

    def __init__(self, file: Any, storage: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name; nothing of it is imported."""
        if module == "__torch__" or module.startswith("__torch__."):
            return _Shell
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in TYPES:
            return TYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return _list
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is neither a tensor nor a container")

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the numbers of a tensor, flat."""
        _, kind, key, _, count = pid
        raw = bytearray(self._storage(str(key)))
        if not raw:
            return torch.empty(0, dtype=kind)
        found = torch.frombuffer(raw, dtype=kind)
        if len(found) != count:
            raise pickle.UnpicklingError(f"a tensor has {len(found)} numbers, and should have {count}")
        return found


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    # PyTorch itself refuses what lies outside of the numbers.
    return storage.as_strided(tuple(size), tuple(stride), offset).contiguous()


def _list(values: list[Any], *_: Any) -> list[Any]:
    return values


def _parameters(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    attributes = getattr(module, "attributes", {})
    for name, value in attributes.items() if isinstance(attributes, dict) else ():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Shell):
            yield from _parameters(value, f"{prefix}{name}.")
