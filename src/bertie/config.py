"""Settings: default < file (bertie.toml) < environment < flag.

Each stage has a table of settings, a pydantic model. The sentence under a field is its `--help`, its comment in the
saved `config.toml` and its line in the reference. Nothing is read before a command asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from bertie import sagemaker_environment
from bertie.settings import Settings


class DataSettings(Settings):
    """How to read a file of labelled texts."""

    # In a file a position is naturally written as a number.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    text_column: str | None = Field(None, description="Column of the text: a name, or a position counted from 0.")
    pair_column: str | None = Field(None, description="Column of the second text, for tasks about text pairs.")
    label_column: str | None = Field(None, description="Column of the label: a name, or a position counted from 0.")
    label_separator: str | None = Field(
        None,
        min_length=1,
        description="Separator between several labels of one text, for example ';'. Makes the task multi-label.",
    )
    header: bool = Field(True, description="Whether the first line of a CSV or TSV file holds the column names.")
    delimiter: str | None = Field(
        None,
        min_length=1,
        max_length=1,
        pattern=r'[^"\r\n]',
        description="Separator of columns; found from the first line and the file's ending if not given.",
    )
    quoting: Literal["auto", "standard", "none"] = Field(
        "auto", description='Whether "..." encloses a field (standard) or quotes are plain characters (none).'
    )
    encoding: str = Field("utf-8", description="Encoding of text files, for example cp1252.")
    drop: str = Field(
        "",
        description="Kinds of bad rows to leave out instead of stopping, separated by commas: "
        "bad-row, empty-text, empty-label, label-once.",
    )


class SplitSettings(Settings):
    """How one file becomes training, validation and test rows."""

    valid_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the rows that choose the best checkpoint.")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="Share of the rows that measure the finished model.")
    seed: int = Field(0, ge=0, description="Seed of everything random: split, batches, new weights, dropout.")


FREE = frozenset(
    {
        *("batch_tokens", "checkpoints", "checkpoint_minutes", "checkpoint_updates", "keep", "keep_at_end"),
        *("restarts", "token_cache"),
    }
)
"""Settings of training that may be others when it goes on: they do not decide what is learned."""


class TrainSettings(Settings):
    """How to fine-tune."""

    base: str = Field(
        "minilm", description="Encoder to start from: minilm, bert, distilbert, modernbert, a folder or a hub name."
    )
    max_passes: int = Field(
        0, ge=0, description="Most passes over the training rows; 0 chooses by the number of rows (3 to 20)."
    )
    patience: int = Field(
        0,
        ge=0,
        description="Passes without a better validation metric after which training stops early; 0: never, because the "
        "last passes, in which the learning rate falls to nothing, are often the best.",
    )
    metric: Literal["macro_f1", "mcc", "accuracy"] = Field(
        "macro_f1", description="Validation metric that chooses the best checkpoint."
    )
    batch_size: int = Field(
        0, ge=0, description="Texts in one update of the weights; 0 takes 16, and 64 from 5000 training rows on."
    )
    batch_tokens: int = Field(
        16384, ge=64, description="Padded tokens computed at once; a larger batch is computed in parts."
    )
    learning_rate: float = Field(
        0.0, ge=0, description="Peak learning rate; 0 takes the one that suits the base (1e-4 for minilm)."
    )
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the updates in which the learning rate rises.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the learning rate falls from its peak: to almost nothing, or not at all (constant)."
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Share of the activations that each update drops; the base's own if not given."
    )
    class_weights: Literal["auto", "balanced", "none"] = Field(
        "auto",
        description="Whether rare labels weigh more in the loss; auto does it where the commonest label has more than "
        "3 times the rows of the rarest.",
    )
    max_tokens: int = Field(
        0, ge=0, description="Length of the model's window, special tokens included; 0 takes all that the base offers."
    )
    long: Literal["truncate", "windows"] = Field(
        "truncate", description="Texts longer than the window are cut (and counted), or read in overlapping windows."
    )
    overlap: int = Field(32, ge=0, description="Tokens shared by neighbouring windows.")
    max_windows: int = Field(32, ge=1, description="Most windows of one text; what is beyond is cut (and counted).")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Number format of the matrix products; auto takes bf16 where it measures faster."
    )
    freeze_embeddings: bool = Field(
        True, description="Leave the embeddings as they are: faster, less memory, and no worse where measured."
    )
    checkpoints: str = Field(
        "",
        description="Folder or fsspec URL of the checkpoints to resume from; in the run if not given.",
    )
    checkpoint_minutes: float = Field(5.0, ge=0, description="Minutes between two checkpoints; 0 for none by time.")
    checkpoint_updates: int = Field(0, ge=0, description="Updates between two checkpoints; 0 for none by number.")
    keep: int = Field(2, ge=1, description="Checkpoints that are kept, the newest ones.")
    keep_at_end: bool = Field(
        False, description="Keep them when training has ended, too: where the machine may still be taken away."
    )
    restarts: int = Field(
        3,
        ge=0,
        description="Times that a training which the system killed (out of memory), or which crashed, goes on from its "
        "checkpoint, with half the tokens computed at once and the same updates.",
    )
    token_cache: bool = Field(
        True, description="Keep the tokens of 20,000 texts or more for the next training on the same texts."
    )
    tolerance: float = Field(
        1e-3, gt=0, description="Greatest difference in probability allowed between the trained and the exported model."
    )


class OptimizeSettings(Settings):
    """How to look for a faster variant."""

    command: ClassVar[str] = "optimize"

    goal: Literal["latency", "throughput", "size"] = Field(
        "latency", description="What the chosen variant is best at: one text, many texts, or bytes on disk."
    )
    max_drop: float = Field(0.005, ge=0, le=1, description="Macro-F1 that a variant may lose; 0.005 is half a point.")
    min_agreement: float = Field(0.99, ge=0, le=1, description="Share of the texts that must keep their labels.")
    candidates: str = Field("", description="Variants to try, by name and with commas between; all if not given.")
    portable: bool = Field(
        True, description="Keep the fp32 variant in the bundle, for machines that lack what the chosen one needs."
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads of one model call; 0 takes all physical cores.")
    seconds: float = Field(1.0, gt=0, description="Time of each part of the measurements.")
    price_per_hour: float | None = Field(None, gt=0, description="US dollars an hour, for the cost of predictions.")
    machine: str = Field("", description="Take the price of this machine from the table, such as c7i.large.")
    prices: str = Field("", description="Table of prices, instead of the one that ships.")


class DistillSettings(Settings):
    """How a small student learns from a teacher."""

    command: ClassVar[str] = "distill"

    base: str = Field(
        "",
        description="Encoder the student starts from, as for bertie train; if not given, the teacher's own checkpoint, "
        "which only a run has.",
    )
    layers: int = Field(0, ge=0, description="Layers of the student; 0 keeps all that its base has.")
    which_layers: Literal["spread", "first"] = Field(
        "spread", description="Which layers of the base stay: evenly spaced with the first and the last, or the first."
    )
    temperature: float = Field(
        2.0, gt=0, description="What the logits are divided by before the student is compared with the teacher."
    )
    soft_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of the teacher's answers in what is learned from a text with a label; the rest is the "
        "label. From a text without one the teacher's answer alone is learned.",
    )
    trim_vocabulary: bool = Field(
        False, description="Leave out pieces of the vocabulary that neither the texts nor any fall-back needs."
    )
    frequent_pieces: int = Field(
        8000, ge=0, description="Most frequent pieces that stay when the vocabulary is trimmed, used or not."
    )


class ServeSettings(Settings):
    """How to serve a model over HTTP."""

    command: ClassVar[str] = "serve"

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for every network interface.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="Port for the Open Inference Protocol over gRPC; none if not given."
    )
    workers: int = Field(
        1, ge=1, description="Processes that speak HTTP; with several, one more holds the models for all of them."
    )
    threads: int = Field(0, ge=0, le=1024, description="Threads of one model call; 0 takes all physical cores.")
    max_body_bytes: int = Field(6 * 1024 * 1024, ge=1024, description="Largest request body.")
    max_bodies_mb: int = Field(
        256, ge=1, description="Memory for bodies that arrive, and answers that wait to be read; what is more gets 429."
    )
    max_texts: int = Field(4096, ge=1, description="Most texts in one request.")
    max_characters: int = Field(1_000_000, ge=1, description="Longest text of a request.")
    default_accept: str = Field("", description="Kind of answer where a request to /invocations names none.")
    name: str = Field("model", pattern=r"^[A-Za-z0-9._-]+$", description="Name of a model that is given without one.")
    model_store: Path | None = Field(
        None,
        description="Folder whose bundles may be loaded and unloaded over HTTP, as SageMaker's multi-model API does.",
    )
    memory_limit_mb: int = Field(
        0,
        ge=0,
        description="Memory for models; of those loaded over HTTP the least recently used make room. 0: no limit.",
    )
    watch_seconds: float = Field(0.0, ge=0, description="How often to look for bundles replaced on disk; 0: never.")
    timeout_seconds: float = Field(30.0, gt=0, description="Time for an answer; 504 after that.")
    queue_seconds: float = Field(
        0.03, gt=0, description="Work that may wait, in seconds of the model's time; more is refused with 429."
    )
    batch_tokens: int = Field(
        1024, ge=1, description="Padded tokens of one model call at most; fewer where the model is slow."
    )
    api_keys: Path | None = Field(
        None,
        description="File of the API keys, one a line; read again when it changes. BERTIE_API_KEYS holds keys too.",
    )
    tls_cert: Path | None = Field(
        None, description="Certificate chain for HTTPS, in PEM; read again when it or its key changes."
    )
    tls_key: Path | None = Field(None, description="The certificate's private key, in PEM, without a passphrase.")
    header_seconds: float = Field(
        10.0, gt=0, description="Time for the head of a request to arrive, and for a reader to take more of its answer."
    )
    max_connections: int = Field(1000, ge=1, description="Connections at a time.")
    drain_seconds: float = Field(
        0.5, ge=0, description="After SIGTERM, how long new requests still get a 503 instead of no connection."
    )
    cors_origins: str = Field(
        "",
        pattern=r"^(\*|(https?://[^/,*\s]+)(,https?://[^/,*\s]+)*)?$",
        description="Web pages of other origins that may ask, such as https://a.example,https://b.example; * for all.",
    )
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people, or of JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of what is logged; each request is a line at info."
    )
    traces: str = Field(
        "",
        description="OTLP address that OpenTelemetry spans go to; OTEL_EXPORTER_OTLP_ENDPOINT if not given.",
    )

    @classmethod
    def _from_environment(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        return sagemaker_environment.settings(environment) | super()._from_environment(environment)
