"""``Composite``: what a lifecycle and a leader have in common: both are made of components."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from threadkit._component import BaseComponent, Component
from threadkit._directory import Directory
from threadkit._entry import Entry
from threadkit._errors import UnknownComponent
from threadkit._interval import IntervalTask
from threadkit._makers import Makers
from threadkit._observe import Observer
from threadkit._override import override
from threadkit._scheduler import Scheduler
from threadkit._waiting import Condition
from threadkit.events import describe

C = TypeVar("C", bound=Component)


class Composite(Makers, Directory):
    """A whole that is made of components. It takes them in, and starts late ones; a subclass does the rest."""

    _condition: Condition
    _start_timeout: float | None
    _shared_scheduler: Scheduler | None = None

    @abstractmethod
    def stop(self, reason: str | None = None) -> None:
        """Ask for the end, and return at once."""

    @abstractmethod
    def _is_up(self) -> bool:
        """Tell whether the components are up, or are being started. The condition is held."""

    @abstractmethod
    def _is_coming_up(self) -> bool:
        """Tell whether the components are being started. The condition is held."""

    @abstractmethod
    def _come_up(self) -> None:
        """All are up, or no more are to be started. The condition is held."""

    @abstractmethod
    def _refuse_closed(self) -> None:
        """Raise where nothing can be added."""

    @override
    def add(
        self,
        component: C,
        *,
        phase: int | None = None,
        requires: Iterable[str | Component] = (),
        check: Callable[[], object] | None = None,
        stop_timeout: float | timedelta | None = None,
        check_timeout: float | timedelta | None = None,
        check_every: float | timedelta | None = None,
    ) -> C:
        """Add a component. If the others run it is started at once, and up when this returns.

        While another thread starts the others it becomes one of them: it is started in its turn, by that thread, and
        this does not wait for it.

        Args:
            component: one of threadkit's, or any object with ``name``, ``start``, ``stop`` and ``join``.
            phase: when it stops, see ``Phase``; None takes the default of its kind.
            requires: names or components that must be up before it, and go down after it. Before the start they may be
                named before they are added.
            check: asked by ``health()``; it raises, or returns False, where something is wrong, or says it by a
                ``Health`` or a ``Status``.
            stop_timeout: seconds that its stop may take, within those of the whole and of its phase.
            check_timeout: seconds after which the answer of its check is late, within those of the whole.
            check_every: seconds for which the answer of its check is good; None takes those of the whole.

        Returns:
            the component itself.

        Raises:
            TypeError: it is no component, or an argument is of the wrong kind.
            ValueError: an argument is out of range; or it runs in another lifecycle or leader; or what it requires is
                being removed.
            DuplicateName: its name is taken.
            DependencyCycle: ``requires`` goes round in a circle.
            UnknownComponent: the others run, and what is required is not there.
            StartTimeout: the others run, and it was not up in time.
            Closed: the whole has been stopped.

        Example:
            >>> lc = Lifecycle()
            >>> from threadkit import ManagedThread
            >>> feed = lc.add(ManagedThread(lambda running: running.wait(), name="feed"))
            >>> lc["feed"] is feed, len(lc)
            (True, 1)
        """
        with self._condition:
            self._refuse_closed()
            others_are_up = self._is_up()
            starts = others_are_up and not self._is_coming_up()
            entry = self._registry.add(
                component,
                phase=phase,
                requires=requires,
                check=check,
                must_exist=others_are_up,
                starts=starts,
                stop_timeout=stop_timeout,
                check_timeout=check_timeout,
                check_every=check_every,
            )
            # Under the lock, since it may come up right after that, with the others.
            if self._shared_scheduler is not None:
                _bind(component, self._shared_scheduler)
            if isinstance(component, BaseComponent):
                component._observers.join(self._observers)
        try:
            if not isinstance(component, BaseComponent):
                self._listen_to(component)
            if starts:
                self._registry.bring_up(entry, self._start_timeout, self._token)
        except BaseException:
            self._registry.discard(entry)
            raise
        return component

    def _next_to_start(self) -> Entry | None:
        """Return what is to be started next, until all are up or a stop has been asked for.

        That this is the end, or that one more comes up, is settled before anybody else can add or stop anything.
        """
        with self._condition:
            goes_on = self._is_coming_up() and not self._token.is_set()
            entry = self._registry.next_to_start() if goes_on else None
            if entry is None:
                self._come_up()
            return entry

    def _listen_to(self, component: Component) -> None:
        """Hear the events of a component of the user's, if it has any."""
        observe: Callable[[Observer], object] | None = getattr(component, "observe", None)
        if observe is not None:
            observe(self._observers.tell)

    def bind(self, scheduler: Scheduler) -> None:
        """Have all tasks use this scheduler from their next start on; who brings it stops it, too."""
        self._shared_scheduler = scheduler
        for entry in self._registry.snapshot():
            _bind(entry.component, scheduler)

    def _take_failure(self, entry: Entry, error: BaseException) -> None:
        """A component has died, and the whole with it; called by the component's own thread."""
        with self._condition:
            self._failures.append(error)
        self.stop(f"component {entry.name!r} failed: {describe(error)}")

    @override
    def _free_name(self, wish: str) -> str:
        self._refuse_forked()
        return self._registry.free_name(wish)

    @override
    def _drop(self, component: Component) -> None:
        with contextlib.suppress(UnknownComponent):
            entry = self._registry.find(component.name)
            if entry.component is component and entry.told_at is None:  # what was told stays for the report
                self._registry.discard(entry)


def _bind(component: Component, scheduler: Scheduler) -> None:
    if isinstance(component, IntervalTask | Composite):
        component.bind(scheduler)
