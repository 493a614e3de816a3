"""What a client and a server say to each other: which requests, what their answers mean, and when to ask again.

No input or output here. An exchange is a generator that yields what is to be done, and is sent what came of it; the
clients do it, one waiting in its thread and one in an event loop, and so does an endpoint of SageMaker.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import bertie.errors
from bertie.errors import BertieError, DeadlinePassed, KeyRefused, NotReady, Overloaded, RequestInvalid, RequestTooLarge
from bertie.scores import Prediction
from bertie.tokens import Text

MAX_TEXTS = 256
"""Texts of one request: enough for the server to form full batches of, and answered well within its time."""

MAX_BYTES = 2**20
"""Bytes of one request; a longer text goes alone."""

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 10.0
"""Waits double from the first to the longest."""

AGAIN = frozenset({429, 502, 503})
"""Statuses that another attempt may change. 504 is not one: the server has worked on it for as long as it may."""


@dataclass(frozen=True)
class Send:
    """Send this, and say what the answer is."""

    body: bytes


@dataclass(frozen=True)
class Wait:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Came:
    """What came back: a status with headers and a body, or why nothing did."""

    status: int = 0
    body: bytes = b""
    retry_after: str = ""
    lost: str = ""
    """Why there is no answer; the server may never have seen the request, or have ended before it answered."""
    late: bool = False
    """Whether there was none in time."""


Result = TypeVar("Result")
Exchange: TypeAlias = Generator[Send | Wait, Came | None, Result]


@dataclass
class Retries:
    """How often and how long to ask again. Waits are random up to their length, so that clients do not come together.

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
    """

    times: int
    seconds: float
    """No attempt begins later than that after the first one."""
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[float, float], float] = random.uniform
    now: Callable[[], float] = time.time
    begun: float = field(init=False)
    attempts: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def wait(self, retry_after: str) -> float | None:
        """Return how long to wait before the next attempt, at least what the server asked for; None for no other."""
        longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2**self.attempts)
        wait = self._asked(retry_after) + self.chance(0.0, longest)
        self.attempts += 1
        if self.attempts > self.times or self.clock() - self.begun + wait > self.seconds:
            return None
        return wait

    def _asked(self, header: str) -> float:
        """Return the seconds of Retry-After, which has them as a number or as a date (RFC 9110, 10.2.3)."""
        if header.isascii() and header.isdigit():
            return float(header)
        try:
            return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - self.now())
        except (ValueError, OverflowError):
            return 0.0


def carry_out(exchange: Exchange[Result], post: Callable[[bytes], Came]) -> Result:
    """Do what an exchange says, in this thread: `post` sends a body, and says what came back."""
    came: Came | None = None
    while True:
        try:
            act = exchange.send(came)
        except StopIteration as done:
            found: Result = done.value
            return found
        if isinstance(act, Send):
            came = post(act.body)
        else:
            time.sleep(act.seconds)
            came = None


def predictions(texts: Sequence[Text], retries: Callable[[], Retries]) -> Exchange[list[Prediction]]:
    """Have all texts labelled, in requests of bounded size; return one Prediction for each, in order."""
    if isinstance(texts, str):
        raise RequestInvalid("predict takes a list of texts, not one text.", hint="predict([text])")
    found: list[Prediction] = []
    for items in parts([item(text, place) for place, text in enumerate(texts)]):
        found += yield from _part(items, retries, len(found))
    return found


def _part(items: list[bytes], retries: Callable[[], Retries], before: int) -> Exchange[list[Prediction]]:
    """Have some texts labelled, of which there are others `before`: errors count from the first of all."""
    try:
        body = yield from _answered(b"[" + b",".join(items) + b"]", retries())
    except RequestTooLarge as error:
        # This server takes less than others.
        middle = len(items) // 2
        if not middle:
            raise _counted(error, before) from None
        first = yield from _part(items[:middle], retries, before)
        return first + (yield from _part(items[middle:], retries, before + middle))
    except RequestInvalid as error:
        raise _counted(error, before) from None
    return read(body, len(items))


def _counted(error: BertieError, before: int) -> BertieError:
    what = re.sub(r"^text (\d+)\b", lambda found: f"text {before + int(found[1])}", error.what)
    return type(error)(what, expected=error.expected, hint=error.hint)


def _answered(body: bytes, retries: Retries) -> Exchange[bytes]:
    while True:
        came = yield Send(body)
        if came is not None and came.status == 200:
            return came.body
        came = came or Came(lost="nothing came back")
        wait = retries.wait(came.retry_after) if came.lost or came.status in AGAIN else None
        if wait is None:
            raise error_of(came)
        yield Wait(wait)


def item(text: Text, place: int) -> bytes:
    """Return a text as it goes over the wire. Raises RequestInvalid for what is no text."""
    pair = isinstance(text, tuple)
    halves: tuple[Any, ...] = text if isinstance(text, tuple) else (text,)
    if len(halves) != 1 + pair or not all(isinstance(half, str) for half in halves):
        raise RequestInvalid(f"text {place} is no text.", expected="a string, or a pair of them")
    value: Any = {"text": halves[0], "text_pair": halves[1]} if pair else text
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RequestInvalid(f"text {place} holds half a character.", expected="whole Unicode characters") from None


def parts(items: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the items in requests of at most MAX_TEXTS and MAX_BYTES; one that is larger goes alone."""
    part: list[bytes] = []
    size = 0
    for one in items:
        if part and (len(part) == MAX_TEXTS or size + len(one) > MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one)
    if part:
        yield part


def read(body: bytes, texts: int) -> list[Prediction]:
    """Return the predictions of an answer. Raises BertieError where it is none."""
    try:
        answers = json.loads(body)
        found = [
            Prediction(
                None if one["label"] is None else str(one["label"]),
                float(one["score"]),
                {str(label): float(score) for label, score in one["scores"].items()},
                tuple(one["labels"]) if "labels" in one else None,
            )
            for one in answers
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _foreign("its answer is none of Bertie's") from None
    if len(found) != texts:
        raise _foreign(f"it answered {len(found)} predictions for {texts} texts")
    return found


def _foreign(what: str) -> BertieError:
    return BertieError(f"the server cannot be understood: {what}.", hint="check the address; is that bertie serve?")


def error_of(came: Came) -> BertieError:
    """Return what went wrong, as the error that the server raised where it tells of one."""
    if came.late:
        return DeadlinePassed("the server did not answer in time.", hint="give it more time, or fewer texts at once")
    if came.lost:
        return NotReady(f"cannot reach the server: {came.lost}.", hint="check the address, and GET /ping")
    try:
        told = json.loads(came.body)["error"]
        words = {key: str(told[key]) for key in ("expected", "hint") if key in told}
        kind, what = getattr(bertie.errors, told["code"], None), str(told["message"])
    except (ValueError, TypeError, KeyError):
        # Not ours: that of a proxy before the server, most likely.
        kinds = {401: KeyRefused, 403: KeyRefused, 413: RequestTooLarge, 429: Overloaded, 504: DeadlinePassed}
        kind = kinds.get(came.status, NotReady if came.status in AGAIN else BertieError)
        return kind(f"the server answered with status {came.status}.", hint="check the address; is that bertie serve?")
    if not (isinstance(kind, type) and issubclass(kind, BertieError)):
        kind = BertieError
    return kind(what, **words)
