from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bertie import disk
from bertie.data.texts import Texts
from bertie.errors import RequestInvalid
from bertie.talk import Talk
from bertie.token_cache import HASHES, STALE_SECONDS, TokenCache, encoded, key_of
from bertie.tokens import Text, TextEncoder, TextLimits, Tokens
from tests.test_disk import files_of_at_most

LIMITS = TextLimits(16)
SLOW_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
ANY = st.lists(st.one_of(st.text(), st.tuples(st.text(), st.text())), max_size=4)


@pytest.fixture
def encoder(tiny_tokenizer: Tokenizer) -> TextEncoder:
    return TextEncoder(tiny_tokenizer, LIMITS)


@pytest.fixture
def cache(tmp_path: Path) -> TokenCache:
    return TokenCache(tmp_path / "cache" / "tokens", Talk(), fewest_texts=1)


def texts(number: int = 0) -> list[Text]:
    return ["where is my parcel", "one two " * 20, f"it is late {number}"]


def same(one: Tokens | None, other: Tokens) -> bool:
    return one is not None and all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        and getattr(one, field.name).dtype == getattr(other, field.name).dtype
        for field in fields(Tokens)
    )


def entries(cache: TokenCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir()} if cache.folder.is_dir() else set()


def test_the_second_time_the_tokens_come_from_disk(
    cache: TokenCache, encoder: TextEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    first = encoded(encoder, texts(), cache)
    assert capsys.readouterr().err == ""
    second = encoded(encoder, texts(), cache)
    assert "the tokens of 3 texts are those kept in" in capsys.readouterr().err
    assert same(first, encoder.encode(texts()))
    assert same(second, first)
    assert not second.ids.flags.writeable, "mapped, not read"
    inputs = [tokens.pad(np.array([1, 0]), 0) for tokens in (first, second)]
    assert all(np.array_equal(inputs[0][name], inputs[1][name]) for name in inputs[0])


def test_without_a_cache_and_of_few_texts_nothing_is_kept(cache: TokenCache, encoder: TextEncoder) -> None:
    cache.fewest_texts = 4
    assert same(encoded(encoder, texts(), cache), encoder.encode(texts()))
    assert same(encoded(encoder, texts(), None), encoder.encode(texts()))
    assert entries(cache) == set()


def test_nobody_else_can_read_an_entry(cache: TokenCache, encoder: TextEncoder) -> None:
    cache.folder.mkdir(parents=True, mode=0o755)
    encoded(encoder, texts(), cache)
    found = [cache.folder, *cache.folder.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in found if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o600}
    assert len(found) == 8


# The key


def test_the_same_texts_and_tokenizer_have_the_same_key(tiny_tokenizer: Tokenizer) -> None:
    copies = [Tokenizer.from_str(tiny_tokenizer.to_str()) for _ in range(5)]
    kept = Texts()
    for text in texts():
        kept.append(text)
    keys = {
        key_of(TextEncoder(copy, LIMITS, pad_id), rows)
        for pad_id, copy in enumerate(copies)
        for rows in (texts(), kept)
    }
    assert len(keys) == 1


def test_another_tokenizer_and_other_limits_have_other_keys(tiny_tokenizer: Tokenizer) -> None:
    changed = Tokenizer.from_str(tiny_tokenizer.to_str())
    changed.add_tokens(["parcel late"])
    encoders = [
        TextEncoder(tiny_tokenizer, LIMITS),
        TextEncoder(changed, LIMITS),
        TextEncoder(tiny_tokenizer, TextLimits(17)),
        TextEncoder(tiny_tokenizer, TextLimits(16, "windows")),
        TextEncoder(tiny_tokenizer, TextLimits(16, "windows", 2)),
        TextEncoder(tiny_tokenizer, TextLimits(16, max_windows=3)),
    ]
    assert len({key_of(encoder, texts()) for encoder in encoders}) == len(encoders)


@pytest.mark.parametrize("name", ["FORMAT", "__version__", "HASHED_AT_ONCE"])
def test_another_version_has_another_key(encoder: TextEncoder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of(encoder, texts())
    monkeypatch.setattr(f"bertie.token_cache.{name}", 2)
    assert key_of(encoder, texts()) != before


@SLOW_FIXTURE
@given(one=ANY, other=ANY)
def test_other_texts_have_another_key(encoder: TextEncoder, one: list[Text], other: list[Text]) -> None:
    assert (key_of(encoder, one) == key_of(encoder, other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([("a", "b"), "c"], ["a", ("b", "c")]),
        (["", "a"], ["a", ""]),
        ([("a", "b")], ["ab"]),
        ([("a", "b"), ""], [("a", ""), "b"]),
    ],
)
def test_texts_that_run_together_the_same_have_other_keys(
    encoder: TextEncoder, one: list[Text], other: list[Text]
) -> None:
    assert key_of(encoder, one) != key_of(encoder, other)


def test_half_a_character_is_told_as_without_a_cache(cache: TokenCache, encoder: TextEncoder) -> None:
    with pytest.raises(RequestInvalid, match="lone surrogate"):
        encoded(encoder, ["half \ud83d"], cache)
    assert entries(cache) == set()


# Damage


def truncate(entry: Path) -> None:
    os.truncate(entry / "ids.npy", 140)


def flip(entry: Path) -> None:
    content = bytearray((entry / "ids.npy").read_bytes())
    content[-4] ^= 1
    (entry / "ids.npy").write_bytes(content)


def remove(entry: Path) -> None:
    (entry / "types.npy").unlink()


def empty(entry: Path) -> None:
    (entry / HASHES).write_text("")


def forget(entry: Path) -> None:
    (entry / HASHES).write_text("{}")


def confuse(entry: Path) -> None:
    (entry / HASHES).write_text("[]")


def rename(entry: Path) -> None:
    """An entry that is whole, but that of other texts."""
    hashes = json.loads((entry / HASHES).read_text())
    (entry / HASHES).write_text(json.dumps(hashes | {"key": "0" * 64}))


def pickled(entry: Path) -> None:
    """A file that would run code where pickles are read."""
    np.save(entry / "ids.npy", np.array([{}], dtype=object), allow_pickle=True)
    hashes = json.loads((entry / HASHES).read_text())
    (entry / HASHES).write_text(json.dumps(hashes | {"ids": disk.sha256(entry / "ids.npy")}))


def replace(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("")


@pytest.mark.parametrize("damage", [truncate, flip, remove, empty, forget, confuse, rename, pickled, replace])
def test_a_damaged_entry_is_made_anew(
    cache: TokenCache, encoder: TextEncoder, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = encoded(encoder, texts(), cache)
    key = key_of(encoder, texts())
    assert same(cache.load(key), expected)
    damage(cache.folder / key)
    assert cache.load(key) is None
    assert same(encoded(encoder, texts(), cache), expected)
    assert same(cache.load(key), expected)
    assert entries(cache) == {key}
    assert capsys.readouterr().err == ""


# Places that cannot be written


def long_texts() -> list[Text]:
    return [f"one two three four {number}" for number in range(30_000)]


def test_a_full_disk_loses_the_cache_alone_with_one_warning(
    small_disk: Path, encoder: TextEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = TokenCache(small_disk / "tokens", Talk(), fewest_texts=1)
    for start in (0, 1):
        rows = long_texts()[start:]
        assert same(encoded(encoder, rows, cache), encoder.encode(rows))
    said = capsys.readouterr().err
    assert said.count("warning: the tokens are not kept for the next training") == 1
    assert "No space left" in said
    assert entries(cache) == set()


def test_a_file_that_may_not_grow_loses_the_cache_alone(
    cache: TokenCache, encoder: TextEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    with files_of_at_most(10_000):
        assert same(encoded(encoder, long_texts(), cache), encoder.encode(long_texts()))
    assert "File too large" in capsys.readouterr().err
    assert entries(cache) == set()


def test_a_folder_that_cannot_be_made_loses_the_cache_alone(
    tmp_path: Path, encoder: TextEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    cache = TokenCache(tmp_path / "file" / "tokens", Talk(), fewest_texts=1)
    for _ in range(2):
        assert same(encoded(encoder, texts(), cache), encoder.encode(texts()))
    assert capsys.readouterr().err.count("warning") == 1


# Size


def test_what_was_not_used_for_the_longest_time_goes_first(cache: TokenCache, encoder: TextEncoder) -> None:
    sets = [texts(number) * 500 for number in range(3)]
    keys = [key_of(encoder, rows) for rows in sets]
    for number in range(2):
        encoded(encoder, sets[number], cache)
        os.utime(cache.folder / keys[number], (number, number))
    cache.most_bytes = 5 * sum(file.stat().st_size for file in (cache.folder / keys[0]).iterdir()) // 2
    encoded(encoder, sets[0], cache)  # used again, so the second is the oldest now
    encoded(encoder, sets[2], cache)
    assert entries(cache) == {keys[0], keys[2]}


def test_tokens_larger_than_the_whole_cache_are_not_kept_and_push_nothing_out(
    cache: TokenCache, encoder: TextEncoder
) -> None:
    encoded(encoder, texts(), cache)
    before = entries(cache)
    cache.most_bytes = 10_000
    encoded(encoder, long_texts(), cache)
    assert entries(cache) == before != set()


def test_what_a_killed_process_left_goes_after_a_day(cache: TokenCache, encoder: TextEncoder) -> None:
    for name, age in ((".old.x", STALE_SECONDS + 60), (".new.x", 60)):
        (cache.folder / name).mkdir(parents=True)
        os.utime(cache.folder / name, (time.time() - age,) * 2)
    encoded(encoder, texts(), cache)
    assert entries(cache) == {".new.x", key_of(encoder, texts())}


# Several processes


def test_two_processes_that_write_the_same_entry_do_not_disturb_each_other(
    cache: TokenCache, encoder: TextEncoder, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(encoder._whole.to_str())
    program = (
        "import sys; from pathlib import Path; from bertie.talk import Talk\n"
        "from bertie.token_cache import TokenCache; from bertie.tokens import TextEncoder, TextLimits\n"
        "cache = TokenCache(Path(sys.argv[1]), Talk()); key = 'a' * 64\n"
        "tokens = TextEncoder.from_file(Path(sys.argv[2]), TextLimits(16)).encode(['one two'] * 2000)\n"
        "[cache.store(key, tokens) for _ in range(100)]"
    )
    command = [sys.executable, "-c", program, str(cache.folder), str(path)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    expected = encoder.encode(["one two"] * 2000)
    loads = 0
    while any(writer.poll() is None for writer in writers):
        found = cache.load("a" * 64)
        if found is not None:
            assert same(found, expected)
            loads += 1
    assert [writer.wait() for writer in writers] == [0, 0]
    assert ["Traceback" in writer.communicate()[1] for writer in writers] == [False, False]
    assert loads > 0
    assert same(cache.load("a" * 64), expected)
    assert entries(cache) == {"a" * 64}


# Where it lies


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"BERTIE_CACHE": "/a"}, "/a/tokens"),
        ({"BERTIE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/tokens"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/bertie/tokens"),
        ({"XDG_CACHE_HOME": "relative"}, "HOME/.cache/bertie/tokens"),
        ({"BERTIE_CACHE": "", "XDG_CACHE_HOME": ""}, "HOME/.cache/bertie/tokens"),
        ({}, "HOME/.cache/bertie/tokens"),
    ],
)
def test_the_folder_is_that_of_the_environment_or_the_home(
    environment: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    found = TokenCache.usual(Talk(quiet=True), environment)
    assert found is not None
    assert found.folder == Path(place.replace("HOME", "/home/somebody"))


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert TokenCache.usual(Talk(quiet=True), {}) is None
