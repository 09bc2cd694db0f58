"""``Supervised``: a component that lives in a body, and so may be restarted by a group."""

from __future__ import annotations

import threading
from abc import abstractmethod

from threadkit._body import Body, Supervision
from threadkit._clock import Clock
from threadkit._component import BaseComponent, ComponentState
from threadkit._override import override
from threadkit._stop import StopToken


class Supervised(BaseComponent):
    """The common half of ``ManagedThread`` and ``ThreadGroup``.

    Args:
        name: unique within a lifecycle or a group.
        clock: where time comes from; None inherits it.
    """

    def __init__(self, name: str, clock: Clock | None) -> None:
        self._membership: Supervision | None = None
        super().__init__(name, clock)

    @override
    def _reset(self) -> None:
        super()._reset()
        self._body = self._make_body()

    @abstractmethod
    def _make_body(self) -> Body:
        """Make what lives the one life that begins now."""

    @property
    def _ready_timeout(self) -> float | None:
        """How many seconds it may take to be ready again, where it says that at all."""
        return None

    def enlist(self, supervision: Supervision, clock: Clock, token: StopToken) -> None:
        """Become a child of a group: be restarted as that wants, descend from its token, inherit its clock."""
        self._membership = supervision
        self.adopt(clock, token)

    def is_alive(self) -> bool:
        """Return True while the thread runs; between two calls of its body too."""
        self._refuse_forked()
        return self._body.is_alive()

    @override
    def threads(self) -> list[threading.Thread]:
        self._refuse_forked()
        return [] if self._over else self._body.threads()

    def _refuse(self, error: BaseException) -> None:
        """It could not come up: ``start()`` raises the error, so nobody else need be told."""
        self._finish(ComponentState.FAILED, error)
