"""``StopToken`` against a model that is too simple to be wrong: trees of tokens with hooks, stopped in any order."""

from __future__ import annotations

import math

import attrs
import pytest
from helpers import Gate
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from threadkit import Stopping, StopToken
from threadkit._stop import StopHook
from threadkit.testing import VirtualClock


@attrs.define(eq=False)
class Model:
    """What a token should be: a flag with a reason and a moment, and a parent."""

    token: StopToken
    parent: Model | None
    expires: float = math.inf
    stop: tuple[str | None, float | None] | None = None

    def lineage(self) -> list[Model]:
        return [self, *(self.parent.lineage() if self.parent else [])]

    def cause(self, now: float) -> tuple[str | None, float | None] | None:
        for each in self.lineage():
            if each.stop is not None:
                return each.stop
        expires = min(each.expires for each in self.lineage())
        return ("timed out", expires) if now >= expires else None


@attrs.define(eq=False)
class HookModel:
    """What a hook should be: called once, where the stop came before it was removed."""

    of: Model
    hook: StopHook
    calls: list[int]
    ran: Gate
    removed: bool = False


class Tokens(RuleBasedStateMachine):
    """Makes trees, sets tokens, lets time pass, adds and removes hooks."""

    tokens = Bundle("tokens")
    hooks = Bundle("hooks")

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.models: list[Model] = []
        self.hook_models: list[HookModel] = []

    def add(self, model: Model) -> Model:
        self.models.append(model)
        return model

    def settle(self) -> None:
        """Look at all tokens, as somebody does in real life; the first look after a time-out decides."""
        now = self.clock.monotonic()
        for model in self.models:
            model.token.is_set()
            cause = model.cause(now)
            if cause is not None and cause[0] == "timed out" and all(each.stop is None for each in model.lineage()):
                first = min(model.lineage(), key=lambda each: each.expires)
                first.stop = cause

    @rule(target=tokens)
    def root(self) -> Model:
        return self.add(Model(StopToken(clock=self.clock), None))

    @rule(target=tokens, parent=tokens, timeout=st.none() | st.integers(0, 20))
    def child(self, parent: Model, timeout: int | None) -> Model:
        token = parent.token.child(timeout=timeout)
        expires = math.inf if timeout is None else self.clock.monotonic() + timeout
        model = self.add(Model(token, parent, expires))
        self.settle()
        return model

    @rule(model=tokens, reason=st.none() | st.sampled_from(["one", "two"]), limit=st.none() | st.integers(0, 30))
    def set(self, model: Model, reason: str | None, limit: int | None) -> None:
        deadline = None if limit is None else self.clock.monotonic() + limit
        if model.cause(self.clock.monotonic()) is None:
            model.stop = (reason, deadline)
        model.token.set(reason, deadline=deadline)

    @rule(seconds=st.integers(1, 10))
    def advance(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.settle()

    @rule(target=hooks, model=tokens)
    def add_hook(self, model: Model) -> HookModel:
        calls: list[int] = []
        ran = Gate()

        def callback() -> None:
            calls.append(1)
            ran.open()

        hook = HookModel(model, model.token.on_stop(callback), calls, ran)
        self.hook_models.append(hook)
        return hook

    @rule(hook=hooks)
    def remove_hook(self, hook: HookModel) -> None:
        was_called = hook.of.cause(self.clock.monotonic()) is not None
        if was_called and not hook.removed:
            hook.ran.pass_through()
        assert hook.hook.remove() is (not was_called and not hook.removed)
        hook.removed = True

    @invariant()
    def tokens_agree_with_the_model(self) -> None:
        now = self.clock.monotonic()
        for model in self.models:
            token, cause = model.token, model.cause(now)
            assert token.is_set() is not token()
            assert token.is_set() is (cause is not None)
            assert token.reason == (cause[0] if cause else None)
            left = None if cause is None or cause[1] is None else max(0.0, cause[1] - now)
            assert token.remaining() == left
            if cause is not None:
                assert token.wait() is True
                with pytest.raises(Stopping):
                    token.raise_if_set()
            else:
                assert token.wait(0) is False

    @invariant()
    def hooks_agree_with_the_model(self) -> None:
        for hook in self.hook_models:
            if hook.removed:
                assert len(hook.calls) <= 1
            elif hook.of.cause(self.clock.monotonic()) is not None:
                hook.ran.pass_through()
                assert hook.calls == [1]
            else:
                assert hook.calls == []

    @invariant()
    def nothing_is_kept_for_what_is_over(self) -> None:
        waiting = [hook for hook in self.hook_models if not hook.removed and not hook.calls]
        for model in self.models:
            assert set(model.token._hooks) == {hook.hook for hook in waiting if model in hook.of.lineage()}
            assert model.token._gates._gates == {}

    def teardown(self) -> None:
        for model in self.models:
            model.token.set("the test is over")
        for hook in self.hook_models:
            hook.hook.remove()


TestTokens = Tokens.TestCase
TestTokens.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
