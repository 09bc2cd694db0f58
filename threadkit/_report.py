"""What a shutdown came to: one line a component, and the stacks of those who did not stop."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from threadkit.events import describe

Outcome = Literal["stopped", "stuck", "failed"]
LimitName = Literal["deadline", "phase_timeouts", "stop_timeout"]


@attrs.frozen
class ComponentReport:
    """How one component ended.

    Attributes:
        name: the component's name.
        phase: the phase it was stopped in.
        outcome: ``"stopped"`` in time; ``"stuck"``: its threads go on; ``"failed"``: it died, or its ``stop()``,
            ``join()`` or ``close()`` raised.
        seconds: from being told until it was joined, or given up.
        work_left: how many pieces of work it did not finish.
        stacks: for the stuck, what each of their threads was doing, as text by the thread's name.
        error: what it died of, or what its end raised first; what else that raised is in its notes.
        limit: for the stuck, which limit was over first: the ``"deadline"`` of the whole (its stage's share of it),
            the one of its phase in ``"phase_timeouts"``, or its own ``"stop_timeout"``.

    Example:
        >>> print(ComponentReport("jobs", phase=200, outcome="stuck", seconds=10.0, work_left=3))
        jobs: stuck after 10.00 s, 3 left undone
    """

    name: str
    phase: int
    outcome: Outcome
    seconds: float
    work_left: int = 0
    stacks: dict[str, str] = attrs.field(factory=dict[str, str])
    error: BaseException | None = None
    limit: LimitName | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the error becomes text."""
        plain = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return plain | {"stacks": dict(self.stacks), "error": describe(self.error) if self.error else None}

    def __str__(self) -> str:
        line = f"{self.name}: {self.outcome} after {self.seconds:.2f} s"
        if self.limit not in {None, "deadline"}:
            line += f" ({self.limit})"
        if self.work_left:
            line += f", {self.work_left} left undone"
        return f"{line}, {describe(self.error)}" if self.error else line


@attrs.frozen
class ShutdownReport:
    """How a lifecycle ended.

    Attributes:
        name: the lifecycle's name.
        reason: why it stopped, if a reason was given.
        seconds: from the beginning of the shutdown to its end.
        components: one report each, in the order they were stopped in.
        errors: what components died of, what their end raised, and what resources raised while they closed.
        resources_left_open: the resources that were not closed, because a component that may use them is stuck.
        signal: the number of the signal that asked for the stop, if one did.
        forced: a second signal cut the shutdown short.

    Example:
        >>> from threadkit import Lifecycle
        >>> lc = Lifecycle("app")
        >>> lc.start()
        >>> report = lc.shutdown()
        >>> report.ok, report.exit_code
        (True, 0)
    """

    name: str
    reason: str | None
    seconds: float
    components: tuple[ComponentReport, ...] = ()
    errors: tuple[BaseException, ...] = ()
    resources_left_open: tuple[str, ...] = ()
    signal: int | None = None
    forced: bool = False

    @property
    def ok(self) -> bool:
        """True where everything stopped in time and nothing failed."""
        all_stopped = all(part.outcome == "stopped" for part in self.components)
        return all_stopped and not self.errors and not self.resources_left_open

    @property
    def stuck(self) -> tuple[ComponentReport, ...]:
        """The components whose threads go on."""
        return tuple(part for part in self.components if part.outcome == "stuck")

    @property
    def exit_code(self) -> int:
        """What the process should exit with: 128 + n after signal n, 1 where something went wrong, else 0."""
        if self.signal is not None:
            return 128 + self.signal
        return 0 if self.ok else 1

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; errors become text."""
        plain = {field.name: getattr(self, field.name) for field in attrs.fields(type(self))}
        return plain | {
            "components": [part.as_dict() for part in self.components],
            "errors": [describe(error) for error in self.errors],
            "resources_left_open": list(self.resources_left_open),
            "ok": self.ok,
            "exit_code": self.exit_code,
        }

    def __str__(self) -> str:
        verdict = "stopped well" if self.ok else "did not stop well"
        why = f" ({self.reason})" if self.reason else ""
        lines = [f"{self.name} {verdict} in {self.seconds:.2f} s{why}"]
        lines += [f"  {part}" for part in self.components]
        lines += [f"  left open: {name}" for name in self.resources_left_open]
        lines += [f"  error: {describe(error)}" for error in self.errors]
        for part in self.stuck:
            for thread, stack in part.stacks.items():
                lines += [f"  where {thread} of {part.name} is stuck:", *(f"    {line}" for line in stack.splitlines())]
        return "\n".join(lines)
