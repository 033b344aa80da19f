# SPDX-License-Identifier: Apache-2.0
"""Any order of changes, reopenings and time: allocated is what live owners hold."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pycilium.errors import ConflictError, PoolExhaustedError
from pycilium.ipam import Allocation, HostScope, Pool

QUARANTINE = 10
POOLS = (
    Pool(name="small", ipv4="10.1.0.0/29", selector="size=small", quarantine=QUARANTINE),
    Pool(
        name="dual", ipv4="10.2.0.0/29", ipv6="fd00::/125", reserved=["10.2.0.2/31"],
        quarantine=QUARANTINE,
    ),
)  # fmt: skip
OWNERS = st.sampled_from([f"owner-{number}" for number in range(12)])


class Machine(RuleBasedStateMachine):
    """The model: who holds what, and since when each free address rests."""

    @initialize()
    def begin(self) -> None:
        self.now = 100.0
        self.directory = Path(tempfile.mkdtemp())
        self.held: dict[str, Allocation] = {}
        self.rested: dict[object, float] = {}
        self.scope = self.open()

    def open(self) -> HostScope:
        return HostScope.open(POOLS, path=self.directory / "ipam", clock=lambda: self.now)

    @rule(owner=OWNERS, size=st.sampled_from(["small", "large"]))
    def allocate(self, owner: str, size: str) -> None:
        try:
            allocation = self.scope.allocate(owner, labels={"size": size})
        except PoolExhaustedError as error:
            assert owner not in self.held
            usage = next(
                one for one in self.scope.usage()
                if (one.pool, one.family) == (error.pool, error.family)
            )  # fmt: skip
            assert usage.free == 0
            return
        if owner in self.held:
            assert allocation == self.held[owner]
            return
        for address in allocation.addresses:
            since = self.rested.pop(address, None)
            assert since is None or since + QUARANTINE <= self.now
        self.held[owner] = allocation

    @rule(owner=OWNERS, last=st.integers(0, 7))
    def request(self, owner: str, last: int) -> None:
        address = f"10.2.0.{last}"
        taken = {str(one) for held in self.held.values() for one in held.addresses}
        try:
            allocation = self.scope.allocate(owner, addresses=[address])
        except ConflictError:
            assert address in taken or owner in self.held
        except ValueError:
            assert last in (0, 7)
        else:
            assert str(allocation.addresses[0]) == address
            self.held[owner] = allocation
            self.rested.pop(allocation.addresses[0], None)

    @rule(owner=OWNERS)
    def release(self, owner: str) -> None:
        assert self.scope.release(owner) == self.held.pop(owner, None) or owner not in self.held
        self.note_rest()

    @rule(owners=st.sets(OWNERS))
    def keep(self, owners: set[str]) -> None:
        gone = {one.owner for one in self.scope.keep(owners)}
        assert gone == set(self.held) - owners
        for owner in gone:
            del self.held[owner]
        self.note_rest()

    @rule(seconds=st.floats(0, 15))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reopen(self) -> None:
        self.scope.close()
        self.scope = self.open()
        assert self.scope.problems == ()

    def note_rest(self) -> None:
        """Whatever was seen held and is no more rests from now on."""
        now_held = {one for held in self.held.values() for one in held.addresses}
        for address in self.seen - now_held:
            self.rested.setdefault(address, self.now)

    @property
    def seen(self) -> set[object]:
        return self._seen

    @invariant()
    def accounts_are_exact(self) -> None:
        if not hasattr(self, "scope"):
            return
        self._seen = {one for held in self.held.values() for one in held.addresses}
        assert {one.owner: one for one in self.scope} == self.held
        for usage in self.scope.usage():
            family = {
                one for held in self.held.values() if held.pool == usage.pool
                for one in held.addresses if one.version == usage.family
            }  # fmt: skip
            assert usage.allocated == len(family)
            assert usage.free >= 0
        everything = [one for held in self.held.values() for one in held.addresses]
        assert len(everything) == len(set(everything))

    def teardown(self) -> None:
        if hasattr(self, "scope"):
            self.scope.close()
            shutil.rmtree(self.directory)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase
