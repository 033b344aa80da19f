# SPDX-License-Identifier: Apache-2.0
"""Pools: what is given, to whom, in which order, and what is refused."""

from __future__ import annotations

import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from pycilium.errors import ClosedError, ConflictError, PoolExhaustedError, SpecError
from pycilium.ipam import HostScope, Pool

DUAL = Pool(name="dual", ipv4="10.1.0.0/29", ipv6="fd00:1::/64", quarantine=10)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def given(scope: HostScope, owner: str, **how: object) -> list[str]:
    return [str(one) for one in scope.allocate(owner, **how).addresses]  # type: ignore[arg-type]


def test_both_families_and_the_same_answer_twice() -> None:
    with HostScope.open(DUAL) as scope:
        assert given(scope, "a") == ["10.1.0.1", "fd00:1::1"]
        assert given(scope, "a") == ["10.1.0.1", "fd00:1::1"]
        assert given(scope, "b") == ["10.1.0.2", "fd00:1::2"]
        assert [one.owner for one in scope] == ["a", "b"]
    with pytest.raises(ClosedError):
        scope.allocate("c")


def test_an_address_rests_before_its_reuse_and_the_longest_rested_is_next() -> None:
    clock = Clock()
    pool = Pool(ipv4="10.1.0.0/30", quarantine=10)  # two hosts
    with HostScope.open(pool, clock=clock) as scope:
        assert given(scope, "a") + given(scope, "b") == ["10.1.0.1", "10.1.0.2"]
        scope.release("b")
        clock.now += 1
        scope.release("a")
        with pytest.raises(PoolExhaustedError) as full:
            scope.allocate("c")
        assert str(full.value) == (
            "pool default has no IPv4 address left: needs 1, of 4 are 0 allocated, "
            "2 in quarantine and 2 reserved; the next one is free in 9 s"
        )
        clock.now += 9
        assert given(scope, "c") == ["10.1.0.2"]
        with pytest.raises(PoolExhaustedError):
            scope.allocate("d")
        clock.now += 1
        assert given(scope, "d") == ["10.1.0.1"]
        assert scope.release("nobody") is None


def test_a_dual_pool_gives_both_or_neither() -> None:
    pool = Pool(ipv4="10.1.0.0/24", ipv6="fd00::/127", reserved=["fd00::1"])
    with HostScope.open(pool) as scope:
        given(scope, "a")
        with pytest.raises(PoolExhaustedError, match="no IPv6 address left"):
            scope.allocate("b")
        assert [one.allocated for one in scope.usage()] == [1, 1]
        scope.release("a")


def test_labels_choose_the_pool() -> None:
    pools = [
        Pool(name="gold", ipv4="10.2.0.0/24", selector="tier=gold"),
        Pool(name="rest", ipv4="10.3.0.0/24"),
    ]
    with HostScope.open(pools) as scope:
        assert given(scope, "a", labels={"tier": "gold"}) == ["10.2.0.1"]
        assert given(scope, "b", labels="tier=tin") == ["10.3.0.1"]
        assert given(scope, "c", labels="tier=tin", pool="gold") == ["10.2.0.2"]
        with pytest.raises(SpecError, match="one of gold, rest"):
            scope.allocate("d", pool="silver")
    with (
        HostScope.open(pools[0]) as scope,
        pytest.raises(SpecError, match="labels that a pool selects: gold"),
    ):
        scope.allocate("e", labels="tier=tin")


def test_reserved_addresses_are_for_who_asks() -> None:
    pool = Pool(ipv4="10.1.0.0/29", reserved=["10.1.0.0/30", "10.1.0.5"])
    with HostScope.open(pool) as scope:
        assert given(scope, "a") == ["10.1.0.4"]
        assert given(scope, "b") == ["10.1.0.6"]
        assert given(scope, "db", addresses=["10.1.0.2"]) == ["10.1.0.2"]
        with pytest.raises(ConflictError, match=r"address 10\.1\.0\.2 is held by db"):
            scope.allocate("c", addresses=["10.1.0.2"])
        with pytest.raises(ConflictError, match="is held already"):
            scope.allocate("db", addresses=["10.1.0.3"])
        with pytest.raises(PoolExhaustedError, match="3 allocated, 0 in quarantine and 5 reserved"):
            scope.allocate("c")
        scope.release("db")
        assert given(scope, "db2", addresses=["10.1.0.2"]) == ["10.1.0.2"]


@pytest.mark.parametrize(
    ("addresses", "allowed"),
    [
        (["10.9.0.1"], "addresses of a pool"),
        (["10.1.0.0"], "a host's address"),
        (["10.1.0.7"], "a host's address"),
        (["fd00:1::"], "a host's address"),
        (["10.1.0.1", "10.1.0.2"], "one of each family"),
        (["here"], "an address such as"),
    ],
)
def test_addresses_that_nobody_gets(addresses: list[str], allowed: str) -> None:
    with HostScope.open(DUAL) as scope, pytest.raises(SpecError, match=allowed):
        scope.allocate("a", addresses=addresses)


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        ({}, "ipv4, ipv6 or both"),
        ({"ipv4": "10.0.0.1/24"}, "a prefix such as"),
        ({"ipv4": "fd00::/64"}, "a prefix of IPv4"),
        ({"ipv4": "10.0.0.0/24", "reserved": ["10.1.0.0/24"]}, "a part of pool default"),
        ({"ipv4": "10.0.0.0/24", "reserved": "10.0.0.1"}, "a list of prefixes"),
        ({"ipv4": "10.0.0.0/24", "quarantine": -1}, "seconds"),
        ({"ipv4": "10.0.0.0/24", "name": "a b"}, "text without a space"),
        ({"ipv4": "10.0.0.0/24", "subnet": 1}, "one of name, ipv4"),
        ("10.0.0.0/24", "a mapping of"),
    ],
)
def test_pools_that_are_none(content: object, allowed: str) -> None:
    with pytest.raises(SpecError, match=allowed):
        Pool.from_dict(content)


def test_pools_do_not_overlap() -> None:
    one = Pool(name="one", ipv4="10.0.0.0/8")
    with pytest.raises(SpecError, match="prefixes that do not overlap"):
        HostScope.open([one, Pool(name="two", ipv4="10.1.0.0/16")])
    with pytest.raises(SpecError, match="names that differ"):
        HostScope.open([one, Pool(name="one", ipv4="11.0.0.0/8")])


def test_keep_takes_the_rest_back() -> None:
    with HostScope.open(DUAL) as scope:
        for owner in ("net/a", "net/b", "other/c"):
            scope.allocate(owner)
        assert [one.owner for one in scope.keep(["net/b"], among="net/")] == ["net/a"]
        assert {one.owner for one in scope} == {"net/b", "other/c"}


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    clock, store = Clock(), tmp_path / "ipam"
    with HostScope.open(DUAL, path=store, clock=clock) as scope:
        for owner in "abc":
            scope.allocate(owner)
        scope.release("b")
        with pytest.raises(ConflictError, match="is held by process"):
            HostScope.open(DUAL, path=store)
    clock.now += 3
    with HostScope.open(DUAL, path=store, clock=clock) as scope:
        assert given(scope, "a") == ["10.1.0.1", "fd00:1::1"]
        assert given(scope, "d") == ["10.1.0.4", "fd00:1::4"]
        assert [one.quarantined for one in scope.usage()] == [1, 1]
        clock.now += 7
        assert [one.quarantined for one in scope.usage()] == [0, 0]
    clock.now = 5  # the machine was started again: the past is as if it were now
    with HostScope.open(DUAL, path=store, clock=clock) as scope:
        assert [one.quarantined for one in scope.usage()] == [1, 1]


def test_another_configuration_keeps_its_owners(tmp_path: Path) -> None:
    store = tmp_path / "ipam"
    with HostScope.open(DUAL, path=store) as scope:
        scope.allocate("a")
    with HostScope.open(Pool(ipv4="10.9.0.0/24"), path=store) as scope:
        assert given(scope, "a") == ["10.1.0.1", "fd00:1::1"]
        assert given(scope, "b") == ["10.9.0.1"]
        assert scope.release("a") is not None
        assert [one.allocated for one in scope.usage()] == [1]


def test_a_damaged_store_opens_and_says_so(tmp_path: Path) -> None:
    store = tmp_path / "ipam"
    with HostScope.open(DUAL, path=store) as scope:
        for owner in "abc":
            scope.allocate(owner)
        scope.release("a")
        scope.allocate("d", addresses=["10.1.0.1"])
    lines = store.read_bytes().splitlines(keepends=True)
    store.write_bytes(b"".join(line for line in lines if b"release" not in line))
    with HostScope.open(DUAL, path=store) as scope:
        assert scope.problems == ("a lost 10.1.0.1 to d",)
        assert {one.owner for one in scope} == {"b", "c", "d"}
    lines[2] = lines[2].replace(b"10.1", b"10.7")
    store.write_bytes(b"".join(lines))
    with HostScope.open(DUAL, path=store) as scope:
        assert "line 3 is damaged and was left out" in scope.problems[0]
        assert {one.owner for one in scope} == {"c", "d"}
        assert scope.get("b") is None


def test_a_full_twelve_bit_prefix_is_handed_out_in_constant_time_each() -> None:
    """The last thousand of a million cost no more than some times the first thousand."""
    pool = Pool(ipv4="10.16.0.0/12", quarantine=0, reserved=["10.16.0.0/16"])

    def thousand(scope: HostScope, start: int) -> float:
        begin = time.thread_time()
        for number in range(start, start + 1000):
            scope.allocate(str(number))
        return time.thread_time() - begin

    with HostScope.open(pool) as scope:
        count = (1 << 20) - (1 << 16) - 1
        first = min(thousand(scope, at * 1000) for at in range(3))
        for number in range(3000, count - 2000):
            scope.allocate(str(number))
        last = min(thousand(scope, count - 2000), thousand(scope, count - 1000))
        with pytest.raises(PoolExhaustedError, match="983039 allocated, 0 in quarantine"):
            scope.allocate("one more")
        reused = scope.release("500000")
        assert reused is not None
        assert scope.allocate("one more").addresses == reused.addresses
        assert last < 20 * first


def test_the_last_address_of_a_huge_prefix() -> None:
    with HostScope.open(Pool(ipv6="fd00::/64")) as scope:
        last = ip_address("fd00::ffff:ffff:ffff:ffff")
        assert scope.allocate("a", addresses=[last]).addresses == (last,)
        assert scope.usage()[0].free == (1 << 64) - 2
