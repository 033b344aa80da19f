# SPDX-License-Identifier: Apache-2.0
"""Maglev tables: spread, disruption, determinism, with NumPy and without."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycilium.errors import SpecError
from pycilium.lb import maglev

HUNDRED = {f"10.0.{i}.1:80": 1 for i in range(100)}
weights = st.dictionaries(st.text(max_size=8), st.integers(0, 9), min_size=1, max_size=12)


def names(members: dict[str, int], size: int = 65537) -> list[str]:
    order = list(members)
    return [order[slot] for slot in maglev.table(members, size)]


@pytest.fixture
def no_numpy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "numpy", None)
    maglev._numpy.cache_clear()
    maglev._populate.cache_clear()
    yield
    maglev._numpy.cache_clear()
    maglev._populate.cache_clear()


def test_the_load_is_spread_evenly() -> None:
    counts = Counter(names(HUNDRED))
    assert max(counts.values()) - min(counts.values()) <= 1


@given(weights, st.sampled_from((1021, 4093)))
def test_shares_are_those_of_the_weights(members: dict[str, int], size: int) -> None:
    total = sum(members.values())
    if not total:
        assert list(maglev.table(members, size)) == []
        return
    counts = Counter(names(members, size))
    assert sum(counts.values()) == size
    for name, weight in members.items():
        assert abs(counts[name] - size * weight / total) <= len(members)
        assert weight or name not in counts


@pytest.mark.parametrize("gone", [0, 41, 99])
def test_one_of_a_hundred_leaves(gone: int) -> None:
    left = dict(HUNDRED)
    name = list(HUNDRED)[gone]
    del left[name]
    before, after = names(HUNDRED), names(left)
    moved = sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
    share = before.count(name) / len(before)
    assert share <= moved <= share + 0.02


def test_a_drained_backend_moves_little_else() -> None:
    drained = dict(HUNDRED) | {"10.0.5.1:80": 0}
    before, after = maglev.table(HUNDRED), maglev.table(drained)
    assert 0.01 <= maglev.disruption(before, after) <= 0.03


@given(weights, st.randoms(use_true_random=False))
def test_the_order_of_the_backends_does_not_matter(members: dict[str, int], random: object) -> None:
    shuffled = list(members.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert names(members, 1021) == names(dict(shuffled), 1021)


EXAMPLES = [
    HUNDRED,
    {"a": 1},
    {"a": 1, "b": 2, "c": 0},
    {f"b{i}": i % 7 + 1 for i in range(50)},
    {"heavy": 65535, "light": 1},
]


@pytest.mark.parametrize("members", EXAMPLES, ids=lambda one: str(len(one)))
def test_without_numpy_it_is_the_same(members: dict[str, int], no_numpy: None) -> None:
    plain = maglev.table(members, 4093)
    assert type(plain).__name__ == "array"
    maglev._numpy.cache_clear()
    maglev._populate.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numpy", numpy)
        fast = maglev.table(members, 4093)
    assert type(fast).__name__ == "ndarray"
    assert list(plain) == list(fast)


def test_the_last_slots_are_found_by_position_as_by_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = list(maglev.table(HUNDRED, 4093))
    monkeypatch.setattr(maglev, "_TAIL", 1 << 30)
    maglev._populate.cache_clear()
    assert list(maglev.table(HUNDRED, 4093)) == fast
    maglev._populate.cache_clear()


def test_a_known_table_is_another_balancers_too() -> None:
    """Written down: balancers of one group may run different versions."""
    assert "".join(names({"a": 1, "b": 1, "c": 2}, 13)) == GOLDEN


GOLDEN = "bcacacccccbba"


@pytest.mark.parametrize("size", [0, 1, 2, 4, 65536, 65538, 1 << 30, "7", 7.0, None])
def test_a_size_that_is_no_prime(size: object) -> None:
    with pytest.raises(SpecError, match=r"maglev size: .* a prime up to"):
        maglev.table({"a": 1}, size)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [-1, 65536, 1.5, True, "1"])
def test_a_weight_that_is_none(weight: object) -> None:
    with pytest.raises(SpecError, match="weight of a"):
        maglev.table({"a": weight})  # type: ignore[dict-item]


def test_more_backends_than_slots() -> None:
    with pytest.raises(SpecError, match="at most 7, the size"):
        maglev.table({str(i): 1 for i in range(8)}, 7)


def test_sizes_that_are_offered_are_primes() -> None:
    for size in maglev.SIZES:
        maglev.check_size(size)
    with pytest.raises(SpecError):
        maglev.disruption([1], [1, 2])
