# SPDX-License-Identifier: Apache-2.0
"""Numbers of identities: equal labels, equal numbers; never two owners; reused late."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pycilium import SpecError
from pycilium.model import IdentityAllocator, Labels
from pycilium.model import identity as module

GRACE = 60.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def labels(name: str) -> Labels:
    return Labels.of({"app": name})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def allocator(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> IdentityAllocator:
    """Three numbers in all, so that they run out."""
    monkeypatch.setattr(module, "LAST_ENDPOINT", module.FIRST_ENDPOINT + 2)
    return IdentityAllocator(grace=GRACE, clock=clock)


def test_the_space_has_24_bits() -> None:
    assert module.LAST_ENDPOINT == (1 << 24) - 1
    assert module.LAST_CIDR >> 24 == 1


def test_labels_that_come_back_get_their_number_back(allocator: IdentityAllocator) -> None:
    first = allocator.acquire(labels("web"))
    allocator.release(first.labels)
    assert allocator.acquire(labels("db")).number != first.number
    assert allocator.acquire(labels("web")) == first


def test_nobody_else_gets_a_number_within_the_grace(
    allocator: IdentityAllocator, clock: Clock
) -> None:
    gone = allocator.acquire(labels("gone"))
    allocator.release(gone.labels)
    others = {allocator.acquire(labels(name)).number for name in "ab"}
    assert gone.number not in others
    with pytest.raises(SpecError, match="identities"):
        allocator.acquire(labels("c"))
    clock.now = GRACE
    assert allocator.acquire(labels("c")).number == gone.number


def test_after_a_restart_numbers_go_on(allocator: IdentityAllocator, clock: Clock) -> None:
    gone = allocator.acquire(labels("gone"))
    allocator.release(gone.labels)
    later = IdentityAllocator(grace=GRACE, clock=clock)
    later.go_on_from(allocator.next_numbers)
    assert later.acquire(labels("new")).number != gone.number


class Allocations(RuleBasedStateMachine):
    """Any order of uses, releases, plans and times."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, module.LAST_ENDPOINT = module.LAST_ENDPOINT, module.FIRST_ENDPOINT + 7
        self.clock = Clock()
        self.allocator = IdentityAllocator(grace=GRACE, clock=self.clock)
        self.held: list[tuple[Labels, int]] = []
        self.last: dict[int, tuple[Labels, float]] = {}

    def teardown(self) -> None:
        module.LAST_ENDPOINT = self.whole

    @rule(name=st.sampled_from("abcdefghijkl"))
    def acquire(self, name: str) -> None:
        asleep = [until for _, until in self.last.values() if until > self.clock.now]
        try:
            found = self.allocator.acquire(labels(name))
        except SpecError:
            assert len({one for _, one in self.held}) + len(asleep) >= 8
            return
        owner, until = self.last.get(found.number, (found.labels, 0.0))
        assert owner == found.labels or until <= self.clock.now
        self.held.append((found.labels, found.number))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.held))
        self.held.remove(one)
        self.allocator.release(one[0])
        self.last[one[1]] = (one[0], self.clock.now + GRACE)

    @rule(seconds=st.sampled_from((1.0, GRACE / 2, GRACE)))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(name=st.sampled_from("abcdef"))
    def plan(self, name: str) -> None:
        before = self.allocator.all()
        with suppress(SpecError):
            self.allocator.copy().acquire(labels(name))
        assert self.allocator.all() == before

    @invariant()
    def one_number_for_each_label_set(self) -> None:
        numbers = dict(self.held)
        assert all(numbers[one] == number for one, number in self.held)
        assert len(set(numbers.values())) == len(numbers)


TestAllocations = Allocations.TestCase
TestAllocations.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
