"""Tiny models and data, built once in memory or in a temporary folder; nothing comes from the network."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from bertie.talk import Talk

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Two threads on a model of 32 dimensions only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

WORDS = [
    *[
        "where",
        "is",
        "my",
        "parcel",
        "late",
        "courier",
        "refund",
        "invoice",
        "charged",
        "twice",
        "money",
        "thank",
        "you",
        "so",
        "much",
        "love",
        "it",
        "great",
        "service",
    ],
    *[
        "please",
        "send",
        "back",
        "the",
        "order",
        "it",
        "has",
        "not",
        "come",
        "and",
        "i",
        "want",
        "to",
        "know",
        "why",
        "a",
        "b",
        "c",
        "d",
        "e",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
    ],
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio, which is what serves."""
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    """A word-level tokenizer in BERT's style, over some sixty words and all ASCII letters as pieces."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(f"##{letter}" for letter in letters), *map(str, range(10))]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*special, *WORDS, *pieces]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(special)
    return tokenizer


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Tokenizer) -> Path:
    """A folder with a two-layer BERT of random weights, as `save_pretrained` writes one."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=tiny_tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        BertForMaskedLM(config).bert.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    fast.save_pretrained(folder)
    return folder


class Heard(Talk):
    """Remembers its warnings."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.words: list[str] = []

    def warn(self, message: str) -> None:
        self.words.append(message)


def make_rows(count: int, seed: int = 0, lengths: tuple[int, int] = (2, 12)) -> list[tuple[str, str]]:
    """Return texts of two labels that a small model can learn: each has a word of its label among others."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = ("delivery", "praise")[number % 2]
        words = list(random.choice(WORDS[30:], size=int(random.integers(*lengths))))
        words.insert(int(random.integers(len(words) + 1)), {"delivery": "parcel", "praise": "love"}[label])
        rows.append((f"{' '.join(words)} {number}", label))
    return rows


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    """Write a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


Train = Callable[..., Path]


@pytest.fixture(scope="session")
def train_tiny(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Return a function that trains the tiny model on a file, and gives the run."""
    from bertie.config import DataSettings, SplitSettings, TrainSettings
    from bertie.pipeline.run_folder import Request
    from bertie.pipeline.train_run import train_run

    def train(data: Path, *, columns: dict[str, object] | None = None, **settings: object) -> Path:
        run = tmp_path_factory.mktemp("run") / "run"
        usual: dict[str, object] = {
            "base": str(tiny_base),
            "max_passes": 8,
            "patience": 3,  # it has learned all by then, and many tests wait for it
            "batch_size": 8,
            "learning_rate": 2e-3,
            "precision": "fp32",
            "freeze_embeddings": False,  # those of the tiny base are random
        }
        train_run(
            Request(data, run),
            DataSettings.load(columns or {}, environment={}),
            SplitSettings.load({"valid_share": 0.2, "test_share": 0.2}, environment={}),
            TrainSettings.load(usual | settings, environment={}),
            Talk(quiet=True),
        )
        return run

    return train


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV file of 300 learnable rows."""
    return write_csv(tmp_path_factory.mktemp("data") / "messages.csv", list(make_rows(300)))


@pytest.fixture(scope="session")
def tiny_run(train_tiny: Train, tiny_data: Path) -> Path:
    """A finished run of the tiny model on learnable rows. Tests must not change it."""
    return train_tiny(tiny_data)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_run: Path) -> Path:
    """The bundle of that run. Tests must not change it."""
    return tiny_run / "bundle"


COLA_VARIABLE = "BERTIE_SHARED_DATA"
COLA_DEFAULT = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def cola(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of CoLA's raw files; skips where the archive is absent."""
    archive = Path(os.environ.get(COLA_VARIABLE, COLA_DEFAULT)) / "cola_public_1.1.zip"
    if not archive.is_file():
        pytest.skip(f"CoLA is not here: set {COLA_VARIABLE} to the folder that holds cola_public_1.1.zip")
    folder = tmp_path_factory.mktemp("cola")
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if name.startswith("cola_public/raw/") and name.endswith(".tsv"):
                (folder / Path(name).name).write_bytes(files.read(name))
    return folder


Bertie = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def bertie() -> Bertie:
    """Return a function that runs the command line in a process of its own."""

    def run(*arguments: object, stdin: str = "", **options: object) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [sys.executable, "-m", "bertie", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=1800,  # a processor without bf16 or AVX-512 takes ten times as long to train
            check=False,
            **options,  # type: ignore[call-overload]  # whatever subprocess.run takes
        )
        return done

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    # Where machines can be made, as in CI, disks can: a test must not be left out unseen.
    refuse = pytest.fail if os.environ.get("BERTIE_TEST_HOSTS") == "1" else pytest.skip
    if os.geteuid() != 0 or shutil.which("mount") is None:
        refuse("a small file system can be mounted by root alone")
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        refuse("mount is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def served(tiny_bundle: Path) -> Iterator[str]:
    """The address of a real server of the tiny bundle, in a process of its own."""
    from bertie.pipeline.demo import serving

    with serving(tiny_bundle) as address:
        yield address


def last_json(text: str) -> dict[str, Any]:
    """Return the JSON document in the last line of an output."""
    document: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return document
