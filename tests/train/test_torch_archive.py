from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bertie.errors import BundleDamaged
from bertie.train.torch_archive import is_torchscript, read_weights


class Attack:
    """What a pickle of an attacker holds: a call."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        self.head = nn.Linear(4, 2).half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        return found


def same(found: dict[str, torch.Tensor], net: nn.Module) -> None:
    expected = net.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_weights_of_torch_save(tmp_path: Path) -> None:
    net = Net()
    torch.save(net.state_dict(), tmp_path / "model.bin")
    same(read_weights(tmp_path / "model.bin"), net)
    torch.save({"state_dict": {f"module.{name}": value for name, value in net.state_dict().items()}}, tmp_path / "m.pt")
    same(read_weights(tmp_path / "m.pt"), net)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_weights_of_a_traced_model_are_those_torch_itself_reads(tmp_path: Path) -> None:
    path = tmp_path / "traced.pt"
    torch.jit.save(torch.jit.trace(Net(), torch.ones(1, 3)), path)  # type: ignore[no-untyped-call]  # torch's
    assert is_torchscript(path)
    same(read_weights(path), torch.jit.load(path))  # type: ignore[no-untyped-call]  # torch's


def test_a_call_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    torch.save({"weight": Attack(marker)}, tmp_path / "model.bin")
    with pytest.raises(BundleDamaged, match="nothing of it was run"):
        read_weights(tmp_path / "model.bin")
    assert not marker.exists()
    # The attack is real: this is what reading it without care does.
    torch.load(tmp_path / "model.bin", weights_only=False)
    assert marker.exists()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_call_in_a_traced_model_is_not_run(tmp_path: Path) -> None:
    import pickle

    marker, path = tmp_path / "marker", tmp_path / "traced.pt"
    torch.jit.save(torch.jit.trace(Net(), torch.ones(1, 3)), path)  # type: ignore[no-untyped-call]  # torch's
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for name in good.namelist():
            attack = name.endswith("/data.pkl")
            bad.writestr(name, pickle.dumps(Attack(marker)) if attack else good.read(name))
    with pytest.raises(BundleDamaged, match="neither a tensor nor a container"):
        read_weights(tmp_path / "bad.pt")
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04", b"PK\x05\x06" + b"\x01" * 18])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(BundleDamaged):
        read_weights(tmp_path / "model.bin")
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BundleDamaged, match="not a whole file"):
        read_weights(tmp_path / "model.safetensors")


def test_a_file_that_was_copied_in_part_is_refused(tmp_path: Path) -> None:
    net = Net()
    torch.save(net.state_dict(), tmp_path / "model.bin")
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    for name in ("model.bin", "model.safetensors"):
        same(read_weights(tmp_path / name), net)
        whole = (tmp_path / name).read_bytes()
        for part in (1, len(whole) // 2, len(whole) - 1):
            (tmp_path / name).write_bytes(whole[:part])
            with pytest.raises(BundleDamaged):
                read_weights(tmp_path / name)


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    torch.save(Net(), tmp_path / "model.bin")
    with pytest.raises(BundleDamaged):
        read_weights(tmp_path / "model.bin")
    torch.save([torch.ones(2)], tmp_path / "list.bin")
    with pytest.raises(BundleDamaged, match="by name"):
        read_weights(tmp_path / "list.bin")
