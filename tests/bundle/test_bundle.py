from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertie
from bertie.bundle import read
from bertie.bundle.manifest import FORMAT, Manifest
from bertie.bundle.read import opened, verify
from bertie.errors import BundleDamaged, BundleNotFound, BundleTooNew, ProbeFailed

TEXTS = ["where is my parcel", "i love it"]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def change(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    edit(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_a_whole_bundle_is_accepted(bundle: Path) -> None:
    manifest = Manifest.from_file(bundle / "manifest.json")
    verify(bundle, manifest.files)
    assert manifest.format == FORMAT
    assert set(manifest.files) == {"model.onnx", "model.onnx.data", "tokenizer.json", "probe.json", "README.md"}
    assert Manifest.model_validate_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "probe.json", "README.md"])
@pytest.mark.parametrize("damage", ["missing", "flipped", "longer"])
def test_every_damaged_file_is_named(bundle: Path, name: str, damage: str) -> None:
    file = bundle / name
    raw = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "flipped":
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    else:
        file.write_bytes(raw + b" ")
    with pytest.raises(BundleDamaged, match=name.replace(".", r"\.")):
        bertie.load(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": "x"}', "[" * 100_000])
def test_what_is_no_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleDamaged, match=r"manifest\.json"):
        bertie.load(bundle)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda m: m.update(labels=["a", "a"]), "a label stands there twice"),
        (lambda m: m.update(thresholds=[0.5]), "not one threshold for each label"),
        (lambda m: m.update(chosen="other"), "not among the variants"),
        (lambda m: m.update(temperature=0), "temperature"),
        (lambda m: m["files"].pop("model.onnx"), "has no hash"),
        (lambda m: m["files"].update({"../out": m["files"]["probe.json"]}), "outside the bundle"),
        (lambda m: m["files"].update({"/etc/passwd": m["files"]["probe.json"]}), "outside the bundle"),
        (lambda m: m["files"]["probe.json"].update(sha256="xyz"), "sha256"),
        (lambda m: m.update(task="regression"), "task"),
        (lambda m: m["input"].pop("max_tokens"), "max_tokens"),
    ],
)
def test_an_inconsistent_manifest_is_refused(bundle: Path, edit: Callable[[dict[str, Any]], object], why: str) -> None:
    change(bundle, edit)
    with pytest.raises(BundleDamaged, match=why):
        bertie.load(bundle)


def test_a_field_of_a_later_release_of_the_same_format_is_no_error(bundle: Path) -> None:
    change(bundle, lambda m: m.update(colour="blue"))
    bertie.load(bundle)


def test_a_newer_format_names_the_version_to_install(bundle: Path) -> None:
    change(bundle, lambda m: (m.update(format=FORMAT + 1), m["provenance"].update(bertie="9.1.0")))
    with pytest.raises(BundleTooNew, match=f"format {FORMAT + 1}") as caught:
        bertie.load(bundle)
    assert "pip install 'bertie>=9.1.0'" in str(caught.value)
    change(bundle, lambda m: m.pop("provenance"))
    with pytest.raises(BundleTooNew):
        bertie.load(bundle)


def test_a_model_that_scores_otherwise_fails_its_probe(bundle: Path) -> None:
    """Files and hashes agree, but another temperature makes other scores."""
    change(bundle, lambda m: m.update(temperature=9.0))
    with pytest.raises(ProbeFailed, match="does not score its probe"):
        bertie.load(bundle)


def test_a_run_a_bundle_and_an_archive_predict_the_same(tiny_run: Path, tmp_path: Path) -> None:
    expected = bertie.load(tiny_run / "bundle").predict_proba(TEXTS).tolist()
    assert bertie.load(tiny_run).predict_proba(TEXTS).tolist() == expected
    for inside in (".", "bundle", "some/other"):
        archive = tmp_path / "model.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(tiny_run / "bundle", inside)
        if inside == "some/other":
            with pytest.raises(BundleNotFound):
                bertie.load(archive)
        else:
            assert bertie.load(archive).predict_proba(TEXTS).tolist() == expected


def archive_with(tmp_path: Path, member: tarfile.TarInfo, data: bytes = b"") -> Path:
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return archive


@pytest.mark.parametrize("name", ["../outside", "/var/outside-bertie"])
def test_an_archive_writes_nothing_outside(tmp_path: Path, name: str) -> None:
    archive = archive_with(tmp_path, tarfile.TarInfo(name), b"x")
    with pytest.raises((BundleDamaged, BundleNotFound)):
        bertie.load(archive)
    assert not Path("/var/outside-bertie").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_an_archive_of_links_or_devices_is_refused(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("manifest.json")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(BundleDamaged, match="neither a file nor a folder"):
        bertie.load(archive_with(tmp_path, member))


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_with(tmp_path, tarfile.TarInfo("manifest.json"), b"0" * 2000)
    monkeypatch.setattr(read, "LARGEST_ARCHIVE", 1000)
    with pytest.raises(BundleDamaged, match="would unpack to more"):
        bertie.load(archive)


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_cut_off_archive_is_refused_and_leaves_nothing(tiny_bundle: Path, tmp_path: Path, keep: int) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tiny_bundle, ".")
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(BundleDamaged, match="cannot be unpacked"):
        bertie.load(archive)


def test_what_an_archive_was_unpacked_to_is_removed(tiny_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "model.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tiny_bundle, ".")
    with opened(archive) as folder:
        assert (folder / "manifest.json").is_file()
    assert not folder.exists()


def test_a_folder_without_a_bundle_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="no manifest") as caught:
        bertie.load(tmp_path)
    assert "bertie train" in str(caught.value)
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(BundleNotFound) as caught:
        bertie.load(tmp_path)
    assert "bertie export" in str(caught.value)


def test_the_card_says_what_it_is(tiny_bundle: Path) -> None:
    card = (tiny_bundle / "README.md").read_text()
    assert "`delivery`, `praise`" in card
    assert "95 % interval" in card
