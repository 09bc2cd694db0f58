"""How long to wait before the next try."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any
from urllib.error import HTTPError

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from threadkit import Retry, backoff
from threadkit.backoff import RetryState, constant, delay_of, exponential, sequence


def delays(wait: backoff.Backoff, count: int, chance: float = 0.5) -> list[float]:
    """Return the first delays of a backoff, one after the other, with the same luck each time."""
    found: list[float] = []
    for number in range(1, count + 1):
        previous = found[-1] if found else 0.0
        found.append(wait(RetryState(attempt_number=number, previous_delay=previous, random=lambda: chance)))
    return found


def test_constant() -> None:
    """A constant backoff waits equally long each time."""
    assert delays(constant(2), 3) == [2.0, 2.0, 2.0]
    assert delays(constant(timedelta(minutes=1)), 1) == [60.0]
    assert delays(constant(0), 1) == [0.0]


def test_sequence() -> None:
    """A sequence waits as listed, and its last delay stays."""
    assert delays(sequence(1, 5, timedelta(seconds=60)), 5) == [1.0, 5.0, 60.0, 60.0, 60.0]


def test_exponential() -> None:
    """An exponential backoff grows by its factor up to its cap."""
    assert delays(exponential(1, jitter=None), 4) == [1.0, 2.0, 4.0, 8.0]
    assert delays(exponential(0.5, factor=3, cap=10, jitter=None), 4) == [0.5, 1.5, 4.5, 10.0]
    assert delays(exponential(timedelta(seconds=2), factor=1, jitter=None), 3) == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("jitter", "chance", "expected"),
    [
        ("full", 0.0, [0.0, 0.0, 0.0, 0.0]),
        ("full", 0.5, [0.5, 1.0, 2.0, 2.5]),
        ("equal", 0.0, [0.5, 1.0, 2.0, 2.5]),
        ("equal", 0.5, [0.75, 1.5, 3.0, 3.75]),
        ("decorrelated", 0.0, [1.0, 1.0, 1.0, 1.0]),
        ("decorrelated", 0.5, [1.0, 2.0, 3.5, 5.0]),
    ],
)
def test_jitter(jitter: Any, chance: float, expected: list[float]) -> None:
    """Jitter spreads the delays as the head of the module says."""
    assert delays(exponential(1, cap=5, jitter=jitter), 4, chance) == expected


@given(
    base=st.floats(0, 1e3),
    factor=st.floats(1, 10),
    cap=st.floats(0, 1e6),
    jitter=st.sampled_from([None, "full", "equal", "decorrelated"]),
    number=st.integers(1, 10**6),
    previous=st.floats(0, 1e6),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_no_delay_is_above_the_cap(
    base: float, factor: float, cap: float, jitter: Any, number: int, previous: float, chance: float
) -> None:
    """Whatever the attempt and the luck, a delay is a number between zero and the cap."""
    state = RetryState(attempt_number=number, previous_delay=previous, random=lambda: chance)
    assert 0 <= exponential(base, factor, cap, jitter)(state) <= cap


def test_far_attempts() -> None:
    """Where the power is more than a float can hold the cap counts; nothing multiplied stays nothing."""
    far = RetryState(attempt_number=5000)
    assert exponential(1, cap=30, jitter=None)(far) == 30.0
    assert exponential(0, cap=30, jitter=None)(far) == 0.0


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: constant(-1), ValueError, "seconds"),
        (lambda: constant(math.inf), ValueError, "seconds must be finite"),
        (lambda: constant("5s"), TypeError, "seconds"),
        (sequence, ValueError, "at least one delay"),
        (lambda: sequence(1, math.nan), ValueError, "seconds"),
        (lambda: exponential(math.nan), ValueError, "base"),
        (lambda: exponential(True), TypeError, "base"),
        (lambda: exponential(1, factor=0.5), ValueError, "factor must be finite and at least 1"),
        (lambda: exponential(1, factor=math.nan), ValueError, "factor"),
        (lambda: exponential(1, factor=math.inf), ValueError, "factor"),
        (lambda: exponential(1, factor=True), TypeError, "factor must be a number"),
        (lambda: exponential(1, factor="2"), TypeError, "factor must be a number"),
        (lambda: exponential(1, cap=-1), ValueError, "cap"),
        (lambda: exponential(1, jitter="some"), ValueError, "jitter must be one of 'full'"),
        (lambda: Retry(0), ValueError, "max_attempts"),
        (lambda: Retry(1.5), TypeError, "max_attempts"),
        (lambda: Retry(True), TypeError, "max_attempts"),
        (lambda: Retry(backoff=5), TypeError, "backoff must be callable"),
        (lambda: Retry(on=5), TypeError, "on must be callable"),
        (lambda: Retry(on=int), TypeError, "on must be an exception class"),
        (lambda: Retry(on=(OSError, int)), TypeError, "on must be an exception class"),
        (lambda: Retry(timeout=-1), ValueError, "timeout"),
    ],
)
def test_wrong_arguments(make: Callable[[], object], kind: type[Exception], text: str) -> None:
    """What makes no sense is refused by an error that names the parameter."""
    with pytest.raises(kind, match=text):
        make()


def test_delay_of() -> None:
    """The delay is what the backoff says, unless the error says how long to wait itself."""

    class Busy(Exception):
        def __init__(self, retry_after: object) -> None:
            self.retry_after = retry_after

    def wish(retry_after: object) -> float:
        return delay_of(constant(1), RetryState(attempt_number=1, error=Busy(retry_after)))

    assert delay_of(constant(1), RetryState(attempt_number=1)) == 1.0
    assert wish(30) == 30.0
    assert wish(timedelta(minutes=1)) == 60.0
    for no_wish in (None, True, "soon", "-3", "nan", "inf", ""):
        assert wish(no_wish) == 1.0
    assert wish("120") == 120.0
    for wrong in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match="retry_after"):
            wish(wrong)
    with pytest.raises(TypeError, match="backoff"):
        delay_of(lambda state: None, RetryState(attempt_number=1))  # type: ignore[arg-type,return-value]  # wrong
    with pytest.raises(ValueError, match="backoff"):
        delay_of(lambda state: -1.0, RetryState(attempt_number=1))


@pytest.mark.parametrize(
    ("on", "error", "again"),
    [
        (Exception, OSError(), True),
        (OSError, ValueError(), False),
        ((OSError, ValueError), ValueError(), True),
        ((), ValueError(), False),
        (Exception, SystemExit(), False),
        (BaseException, SystemExit(), True),
        (lambda error: "busy" in str(error), OSError("busy"), True),
        (lambda error: "busy" in str(error), OSError("gone"), False),
    ],
)
def test_what_is_worth_another_attempt(on: Any, error: BaseException, again: bool) -> None:
    """Another attempt is made where the error is of the classes, or where the function says so."""
    delay = Retry(backoff=constant(5), on=on).next_delay(RetryState(attempt_number=1, error=error))
    assert delay == (5.0 if again else None)


def test_attempts_end() -> None:
    """After the last attempt there is no other; ``inf`` has no last."""
    assert Retry(3, constant(5)).next_delay(RetryState(attempt_number=2)) == 5.0
    assert Retry(3, constant(5)).next_delay(RetryState(attempt_number=3)) is None
    assert Retry(1, constant(5)).next_delay(RetryState(attempt_number=1)) is None
    assert Retry(math.inf, constant(5)).next_delay(RetryState(attempt_number=10**9)) == 5.0


def test_time_ends() -> None:
    """No attempt begins later than the time-out."""
    retry = Retry(backoff=constant(5), timeout=timedelta(seconds=60))
    assert retry.next_delay(RetryState(attempt_number=1, seconds_since_start=55.0)) == 5.0
    assert retry.next_delay(RetryState(attempt_number=1, seconds_since_start=55.1)) is None
    assert Retry(backoff=constant(5), timeout=math.inf).timeout is None


def test_retry_is_a_value() -> None:
    """Equal settings are equal, and cannot be changed."""
    assert Retry(3, constant(5)) == Retry(3, constant(5))
    assert Retry().max_attempts == 4
    with pytest.raises(AttributeError):
        Retry().max_attempts = 5  # type: ignore[misc]  # that is the point


class Incrementing:
    """A wait in tenacity's shape, which looks at what tenacity's own look at."""

    def __call__(self, retry_state: Any) -> float:
        return float(retry_state.attempt_number + retry_state.idle_for + retry_state.upcoming_sleep)


def test_waits_of_tenacitys_shape() -> None:
    """An object of the shape of tenacity's waits can be given wherever a backoff is wanted."""
    retry = Retry(backoff=Incrementing())
    assert retry.next_delay(RetryState(attempt_number=2, previous_delay=3.0)) == 5.0


def test_waits_of_tenacity() -> None:
    """Tenacity's own waits can be given wherever a backoff is wanted."""
    wait = tenacity.wait_fixed(1) + tenacity.wait_incrementing(start=0, increment=2)
    assert [Retry(backoff=wait).next_delay(RetryState(attempt_number=n)) for n in (1, 2, 3)] == [1.0, 3.0, 5.0]


def test_stops_of_tenacity() -> None:
    """Tenacity's own stops can be given for the number of attempts; those that look at the delay see it."""
    stop = tenacity.stop_after_attempt(3) | tenacity.stop_before_delay(10)
    retry = Retry(stop, backoff=constant(4))
    assert retry.max_attempts == math.inf
    assert retry.next_delay(RetryState(attempt_number=2, seconds_since_start=5.0)) == 4.0
    assert retry.next_delay(RetryState(attempt_number=2, seconds_since_start=7.0)) is None
    assert retry.next_delay(RetryState(attempt_number=3)) is None


def test_each_error_has_its_policy() -> None:
    """An error that one policy does not take is up to the next; what none takes is not tried again."""
    retry = Retry(5, constant(60), on=ConnectionError, otherwise=Retry(2, constant(1), on=OSError))

    def delays(error: Exception) -> list[float | None]:
        return [retry.next_delay(RetryState(number, error)) for number in (1, 2, 5)]

    assert delays(ConnectionError()) == [60.0, 60.0, None]
    assert delays(OSError()) == [1.0, None, None]
    assert delays(ValueError()) == [None, None, None]
    with pytest.raises(TypeError, match="otherwise must be a Retry, not 3"):
        Retry(otherwise=3)  # type: ignore[arg-type]  # that is the point


class Answer:
    """What an HTTP client attaches to its errors."""

    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}


NOW = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answer", "delay"),
    [
        (Answer(Retry_After="120"), 120.0),
        (Answer(retry_after="2.5"), 2.5),
        (Answer(Retry_After="Wed, 21 Oct 2026 07:29:30 GMT"), 90.0),
        (Answer(Retry_After="Wed, 21 Oct 2026 07:29:30 -0000"), 90.0),
        (Answer(Retry_After="Wed, 21 Oct 2026 09:29:30 +0200"), 90.0),
        (Answer(Retry_After="Wed, 21 Oct 2026 07:00:00 GMT"), 0.0),
        (Answer(Retry_After="in a while"), 1.0),
        (Answer(), 1.0),
        (object(), 1.0),
        (None, 1.0),
    ],
)
def test_what_a_server_says_is_honoured(answer: object, delay: float) -> None:
    """The header Retry-After of an answer that hangs on the error, as seconds or as a date, is the delay."""
    error = OSError("busy")
    error.response = answer  # type: ignore[attr-defined]  # as requests and httpx do
    assert delay_of(constant(1), RetryState(1, error, now=lambda: NOW)) == delay


def test_the_error_of_urllib_says_when() -> None:
    """An HTTPError, which is an answer itself, says when to ask again; also where it is the cause of another error."""
    headers = Message()
    headers["Retry-After"] = "7"
    answer = HTTPError("http://localhost", 503, "busy", headers, None)
    by_cause, by_context, hidden = OSError("a"), OSError("b"), OSError("c")
    by_cause.__cause__ = by_context.__context__ = hidden.__context__ = answer
    answer.__cause__ = by_cause  # a circle ends
    hidden.__suppress_context__ = True
    delays = [delay_of(constant(1), RetryState(1, each)) for each in (answer, by_cause, by_context, hidden)]
    assert delays == [7.0, 7.0, 7.0, 1.0]
    del headers["Retry-After"]
    assert delay_of(constant(1), RetryState(1, by_cause)) == 1.0
    answer.close()
