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
from datetime import datetime, timedelta
from typing import Literal, Protocol, cast

import attrs

from threadkit import _arguments
from threadkit._chance import chance
from threadkit._clock import SYSTEM_CLOCK
from threadkit._retry_after import wish_of

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
        upcoming_sleep: the delay that was worked out; 0 until then. A stop condition sees it.
        now: returns the present time, which the date that a server names is compared with.

    Example:
        >>> RetryState(attempt_number=2, error=OSError("busy")).error
        OSError('busy')
    """

    attempt_number: int
    error: BaseException | None = None
    seconds_since_start: float = 0.0
    previous_delay: float = 0.0
    random: Callable[[], float] = chance
    upcoming_sleep: float = 0.0
    now: Callable[[], datetime] = SYSTEM_CLOCK.now

    @property
    def idle_for(self) -> float:
        """The seconds waited so far, as tenacity calls them."""
        return self.previous_delay


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
    """Return what ``backoff`` says, or what the error says where it, or one that it came of, has a wish of its own.

    That is an attribute ``retry_after``, or the header ``Retry-After`` of an HTTP answer in ``error.response.headers``
    or ``error.headers``: seconds, a ``timedelta``, a number as text, or an HTTP date.

    Raises:
        TypeError: the answer is no number.
        ValueError: the answer is negative, ``nan`` or infinite.

    Example:
        >>> busy = OSError("busy")
        >>> busy.retry_after = 30
        >>> delay_of(constant(1), RetryState(attempt_number=1, error=busy))
        30.0
    """
    wish = wish_of(state.error, state.now)
    return _arguments.seconds(backoff(state), "backoff") if wish is None else wish


Stop = Callable[[RetryState], bool]


@attrs.frozen(init=False)
class Retry:
    """How often, how soon, on what, and for how long something is tried again.

    Args:
        max_attempts: attempts in all, the first included; 1 is no retry, ``inf`` no limit. Or a stop condition: a
            function of a ``RetryState`` that says whether it is enough, as tenacity's ``stop_*`` are; then the
            attribute of this name is ``inf``, and ``stop`` is the function.
        backoff: how long to wait before each further attempt. What the error says itself goes before; see
            ``delay_of()``.
        on: the exception class, or classes, or a function ``f(error) -> bool``, that are worth another attempt.
        timeout: no new attempt begins later than this, in seconds from the first; None is no limit.
        otherwise: what holds for the errors that ``on`` does not take. All attempts count, whatever they raised.

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
        >>> patient = Retry(10, constant(60), on=ConnectionError, otherwise=retry)
        >>> patient.next_delay(RetryState(attempt_number=1, error=ConnectionError("busy")))
        60.0
        >>> patient.next_delay(RetryState(attempt_number=1, error=OSError("busy")))
        5.0
    """

    max_attempts: float
    backoff: Backoff
    on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
    timeout: float | None
    stop: Stop | None
    otherwise: Retry | None

    def __init__(
        self,
        max_attempts: float | Stop = 4,
        backoff: Backoff = exponential(1, cap=3600),  # noqa: B008 - a frozen value, made once, is what is wanted
        on: type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool] = Exception,
        timeout: float | timedelta | None = None,
        otherwise: Retry | None = None,
    ) -> None:
        if otherwise is not None and not isinstance(otherwise, Retry):
            raise TypeError(f"otherwise must be a Retry, not {otherwise!r}")
        stop = max_attempts if callable(max_attempts) else None
        if isinstance(on, (tuple, type)):
            classes = cast("tuple[object, ...]", on if isinstance(on, tuple) else (on,))
            if not all(map(_is_error_class, classes)):
                raise TypeError(f"on must be an exception class, a tuple of them or a function, not {on!r}")
        else:
            _arguments.function(on, "on")
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # attrs makes it
            math.inf if callable(max_attempts) else _arguments.limit(max_attempts, "max_attempts"),
            _arguments.function(backoff, "backoff"),
            on,
            _arguments.timeout(timeout),
            stop,
            otherwise,
        )

    def next_delay(self, state: RetryState) -> float | None:
        """Return the seconds until the next attempt, or None where there is to be none.

        Args:
            state: what has happened so far; ``state.error`` is what the last attempt raised.
        """
        policy = self.policy_for(state.error)
        if policy is None or state.attempt_number >= policy.max_attempts:
            return None
        delay = delay_of(policy.backoff, state)
        return None if policy.is_enough(state, delay) else delay

    def policy_for(self, error: BaseException | None) -> Retry | None:
        """Return the one whose ``on`` takes the error: this, or what stands in ``otherwise``; None where none does."""
        policy: Retry | None = self
        while policy is not None and not policy._is_worth_it(error):
            policy = policy.otherwise
        return policy

    def is_enough(self, state: RetryState, delay: float) -> bool:
        """Return whether there are to be no more attempts, whatever was raised.

        Args:
            state: what has happened so far.
            delay: the seconds until the next attempt, if there is one.
        """
        if state.attempt_number >= self.max_attempts:
            return True
        if self.timeout is not None and state.seconds_since_start + delay > self.timeout:
            return True
        return self.stop is not None and bool(self.stop(attrs.evolve(state, upcoming_sleep=delay)))

    def _is_worth_it(self, error: BaseException | None) -> bool:
        if error is None:
            return True
        if isinstance(self.on, (type, tuple)):
            return isinstance(error, self.on)  # pyright: ignore[reportUnknownMemberType]  # a function may be a tuple
        return bool(self.on(error))


def _is_error_class(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, BaseException)
