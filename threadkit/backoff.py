"""How long to wait before the next try, as values that compose; and ``Retry``, the policy built of them.

A backoff is a callable: it takes a ``RetryState`` and returns seconds. The shape, and the names of the state's
attributes, are tenacity's, so its ``wait_*`` objects can be given wherever a backoff is wanted.

Jitter spreads callers that failed together. "full" is a random share of the whole delay, which in contention costs the
fewest calls (the formulas are those of Marc Brooker's "Exponential Backoff And Jitter", 2015):

    full          uniform(0, min(cap, base * factor ** (n - 1)))
    equal         half of the delay, and a random share of the other half
    decorrelated  min(cap, uniform(base, 3 * the delay before))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Literal, Protocol, cast

import attrs

from threadkit import _arguments
from threadkit._chance import chance

Jitter = Literal["full", "equal", "decorrelated"]
_JITTERS = ("full", "equal", "decorrelated")


@attrs.frozen
class RetryState:
    """What a backoff or a stop condition may look at.

    Attributes:
        attempt_number: the attempts that have been made; 1 after the first.
        error: what the last attempt raised, if it did.
        seconds_since_start: since the first attempt began.
        previous_delay: the seconds waited before the last attempt; 0 at first.
        random: where chance comes from.

    Example:
        >>> RetryState(attempt_number=2, error=OSError("busy")).error
        OSError('busy')
    """

    attempt_number: int
    error: BaseException | None = None
    seconds_since_start: float = 0.0
    previous_delay: float = 0.0
    random: Callable[[], float] = chance

    @property
    def idle_for(self) -> float:
        """The seconds waited so far, as tenacity calls them."""
        return self.previous_delay

    @property
    def upcoming_sleep(self) -> float:
        """The delay that is being worked out; 0 here."""
        return 0.0


class Backoff(Protocol):
    """Anything that says how long to wait: ``f(state) -> seconds``.

    Example:
        >>> def as_told(state: RetryState) -> float:
        ...     return 10.0 * state.attempt_number
        >>> Retry(backoff=as_told).next_delay(RetryState(attempt_number=2))
        20.0
    """

    def __call__(self, state: RetryState, /) -> float:
        """Return the seconds to wait before attempt ``state.attempt_number + 1``."""
        ...


@attrs.frozen
class Exponential:
    """The backoff that ``exponential()`` makes; see there.

    Example:
        >>> exponential(1, cap=30).cap
        30.0
    """

    base: float
    factor: float
    cap: float
    jitter: Jitter | None

    def __call__(self, state: RetryState, /) -> float:
        """Return the seconds to wait."""
        if self.jitter == "decorrelated":
            top = max(self.base, 3 * state.previous_delay)
            return min(self.cap, self.base + (top - self.base) * state.random())
        try:
            delay = min(self.cap, self.base * self.factor ** (state.attempt_number - 1))
        except OverflowError:
            delay = self.cap if self.base else 0.0
        if self.jitter == "full":
            return delay * state.random()
        if self.jitter == "equal":
            return delay / 2 + delay / 2 * state.random()
        return delay


@attrs.frozen
class Sequence:
    """The backoff that ``sequence()`` makes; see there.

    Example:
        >>> sequence(1, 5).delays
        (1.0, 5.0)
    """

    delays: tuple[float, ...]

    def __call__(self, state: RetryState, /) -> float:
        """Return the seconds to wait."""
        return self.delays[min(state.attempt_number, len(self.delays)) - 1]


def constant(seconds: float | timedelta) -> Backoff:
    """Wait equally long each time.

    Args:
        seconds: how long.

    Raises:
        TypeError: it is no duration.
        ValueError: it is negative, ``nan`` or infinite.

    Example:
        >>> constant(2)(RetryState(attempt_number=7))
        2.0
    """
    return Sequence((_arguments.seconds(seconds, "seconds"),))


def exponential(
    base: float | timedelta,
    factor: float = 2,
    cap: float | timedelta = math.inf,
    jitter: Jitter | None = "full",
) -> Backoff:
    """Wait longer each time: ``base``, ``base * factor``, ``base * factor ** 2``, ... seconds, spread by jitter.

    Args:
        base: the first delay, in seconds.
        factor: what each further delay is multiplied by, at least 1.
        cap: no delay is longer than this, in seconds.
        jitter: how the delays are spread; see the head of this module. None keeps them exact.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument is negative, ``nan``, or a factor below 1; or ``jitter`` is unknown.

    Example:
        >>> wait = exponential(1, cap=30, jitter=None)
        >>> [wait(RetryState(attempt_number=n)) for n in (1, 2, 3, 10)]
        [1.0, 2.0, 4.0, 30.0]
    """
    if isinstance(factor, bool) or not isinstance(factor, (int, float)):
        raise TypeError(f"factor must be a number, not {factor!r}")
    if not (1 <= factor < math.inf):
        raise ValueError(f"factor must be finite and at least 1, but is {factor!r}")
    if jitter is not None:
        _arguments.choice(jitter, "jitter", _JITTERS)
    return Exponential(
        _arguments.seconds(base, "base"), float(factor), _arguments.seconds(cap, "cap", infinite=True), jitter
    )


def sequence(*seconds: float | timedelta) -> Backoff:
    """Wait as listed; the last one is for all further attempts.

    Args:
        *seconds: the delays, at least one.

    Raises:
        TypeError: one is no duration.
        ValueError: one is negative, ``nan`` or infinite; or there is none.

    Example:
        >>> wait = sequence(1, 5, 60)
        >>> [wait(RetryState(attempt_number=n)) for n in (1, 2, 3, 4)]
        [1.0, 5.0, 60.0, 60.0]
    """
    if not seconds:
        raise ValueError("sequence() needs at least one delay")
    return Sequence(tuple(_arguments.seconds(value, "seconds") for value in seconds))


def delay_of(backoff: Backoff, state: RetryState) -> float:
    """Return what ``backoff`` says, or what the error says where it has a ``retry_after`` of its own.

    Raises:
        TypeError: the answer is no number.
        ValueError: the answer is negative, ``nan`` or infinite.

    Example:
        >>> busy = OSError("busy")
        >>> busy.retry_after = 30
        >>> delay_of(constant(1), RetryState(attempt_number=1, error=busy))
        30.0
    """
    wish = getattr(state.error, "retry_after", None)
    if isinstance(wish, (int, float, timedelta)) and not isinstance(wish, bool):
        return _arguments.seconds(wish, "retry_after")
    return _arguments.seconds(backoff(state), "backoff")


@attrs.frozen(init=False)
class Retry:
    """How often, how soon, on what, and for how long something is tried again.

    Args:
        max_attempts: attempts in all, the first included; 1 is no retry, ``inf`` no limit.
        backoff: how long to wait before each further attempt.
        on: the exception class, or classes, or a function ``f(error) -> bool``, that are worth another attempt.
        timeout: no new attempt begins later than this, in seconds from the first; None is no limit.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: ``max_attempts`` is below 1, or ``timeout`` is negative or ``nan``.

    Example:
        >>> retry = Retry(max_attempts=3, backoff=constant(5), on=OSError)
        >>> retry.next_delay(RetryState(attempt_number=1, error=OSError("busy")))
        5.0
        >>> retry.next_delay(RetryState(attempt_number=3, error=OSError("busy"))) is None
        True
        >>> retry.next_delay(RetryState(attempt_number=1, error=ValueError("no"))) is None
        True
    """

    max_attempts: float
    backoff: Backoff
    on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
    timeout: float | None

    def __init__(
        self,
        max_attempts: float = 4,
        backoff: Backoff = exponential(1, cap=3600),  # noqa: B008 - a frozen value, made once, is what is wanted
        on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool] = Exception,
        timeout: float | timedelta | None = None,
    ) -> None:
        if isinstance(on, (tuple, type)):
            classes = cast("tuple[object, ...]", on if isinstance(on, tuple) else (on,))
            if not all(map(_is_error_class, classes)):
                raise TypeError(f"on must be an exception class, a tuple of them or a function, not {on!r}")
        else:
            _arguments.function(on, "on")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # attrs makes it
            _arguments.limit(max_attempts, "max_attempts"),
            _arguments.function(backoff, "backoff"),
            on,
            _arguments.timeout(timeout),
        )

    def next_delay(self, state: RetryState) -> float | None:
        """Return the seconds until the next attempt, or None where there is to be none.

        Args:
            state: what has happened so far; ``state.error`` is what the last attempt raised.
        """
        if state.attempt_number >= self.max_attempts or not self._is_worth_it(state.error):
            return None
        delay = delay_of(self.backoff, state)
        if self.timeout is not None and state.seconds_since_start + delay > self.timeout:
            return None
        return delay

    def _is_worth_it(self, error: BaseException | None) -> bool:
        if error is None:
            return True
        if isinstance(self.on, (type, tuple)):
            return isinstance(error, self.on)  # pyright: ignore[reportUnknownMemberType]  # a function may be a tuple
        return bool(self.on(error))


def _is_error_class(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)
