# SPDX-License-Identifier: Apache-2.0
"""Maps as mappings, on the real kernel."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pycilium import ClosedError, ConflictError, KernelError, MapFullError, SpecError
from pycilium.libbpf import Map, Object, ObjectSpec, RingBuffer, split_records

pytestmark = pytest.mark.root
CPUS = len(os.sched_getaffinity(0))


def test_a_hash_is_a_dict(loaded: Object) -> None:
    table = loaded.maps["hash"]
    key = {"a": 1, "b": 2, "c": b"xy"}
    table[key] = {"signed_number": -5, "counts": (1, 2), "word": {"number": 9}, "colour": 7}
    assert table[key].signed_number == -5
    assert table[key].word.bytes == b"\x09\0\0\0"
    assert key in table
    assert len(table) == 1
    (found,) = table
    assert table[found].counts == (1, 2)
    del table[key]
    assert key not in table
    with pytest.raises(KeyError):
        table[key]
    with pytest.raises(KeyError):
        del table[key]


def test_batches(loaded: Object) -> None:
    table = loaded.maps["lru"]
    table.update({i: i * i for i in range(50)})
    assert dict(table.items()) == {i: i * i for i in range(50)}
    table.remove(range(40))
    assert sorted(table) == list(range(40, 50))
    with pytest.raises(SpecError, match="bytes"):
        table.batch_update(b"123", b"", 1)


def test_arrays_and_their_end(loaded: Object) -> None:
    table = loaded.maps["array"]
    table[3] = {"signed_number": 3}
    assert [value.signed_number for value in table.values()] == [0, 0, 0, 3]
    with pytest.raises(KernelError, match="beyond the array's 4 entries"):
        table[4] = {}


def test_per_cpu_values(loaded: Object) -> None:
    table = loaded.maps["percpu_hash"]
    values = [10 + cpu for cpu in range(len(loaded.maps["percpu_array"][0]))]
    table[1] = values
    assert table[1] == values
    assert table.pairs() == [(1, values)]
    with pytest.raises(SpecError, match="a list of"):
        table[1] = 5


def test_longest_prefix(loaded: Object) -> None:
    table = loaded.maps["lpm"]
    table.update(
        [({"prefixlen": 8, "bytes": b"\x0a"}, 1), ({"prefixlen": 16, "bytes": b"\x0a\x01"}, 2)]
    )
    assert table[{"prefixlen": 32, "bytes": b"\x0a\x01\x02\x03"}] == 2
    assert table[{"prefixlen": 32, "bytes": b"\x0a\x02\x02\x03"}] == 1
    assert {key.prefixlen for key in table} == {8, 16}


@pytest.mark.parametrize("name", ["hash", "lpm"])
def test_a_full_map_says_so(loaded: Object, name: str) -> None:
    table = loaded.maps[name]
    size = table.max_entries

    def key(i: int) -> bytes:
        return (
            (32).to_bytes(4, "little") + i.to_bytes(4, "big")
            if name == "lpm"
            else i.to_bytes(8, "big")
        )

    value = bytes(table.value_size)
    table.update([(key(i), value) for i in range(size)])
    with pytest.raises(MapFullError) as caught:
        table[key(size)] = value
    assert (caught.value.map_name, caught.value.used, caught.value.size) == (name, size, size)
    with pytest.raises(MapFullError):
        table.update([(key(size + i), value) for i in range(3)])
    assert len(table) == size


def test_maps_of_maps(loaded: Object) -> None:
    outer = loaded.maps["outer"]
    assert 0 not in outer
    with outer.create_inner(8) as inner:
        inner[5] = 6
        outer[0] = inner
        assert outer[0] == inner.id
    with Map.from_id(outer[0], like=outer.inner) as again:
        assert dict(again.items()) == {5: 6}
    del outer[0]
    with pytest.raises(SpecError, match="map of maps"):
        loaded.maps["hash"].create_inner(1)


def test_iteration_while_the_map_changes(loaded: Object) -> None:
    """A key that stays is seen exactly once, whatever comes and goes."""
    table = loaded.maps["hash"]
    stay = [i.to_bytes(8, "big") for i in range(40)]
    table.update([(key, bytes(32)) for key in stay])
    stop = threading.Event()

    def churn() -> None:
        i = 1000
        while not stop.is_set():
            key = (i % 40 + 1000).to_bytes(8, "big")
            table.store(key, bytes(32))
            table.remove([key])
            i += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(200):
            keys = [table.key_codec.encode(key) for key in table]
            assert len(keys) == len(set(keys))
            assert set(stay) <= set(keys)
    finally:
        stop.set()
        thread.join()


def test_ring_buffer(loaded: Object) -> None:
    run = loaded.programs["classify"].test_run(bytes(64), repeat=3)
    assert run.retval == 5
    with RingBuffer(loaded.maps["ring"]) as ring:
        records = list(split_records(ring.drain()))
        assert [int.from_bytes(one, "little") for one in records] == [64, 64, 64]
        assert len(ring.drain()) == 0
        loaded.programs["classify"].test_run(bytes(64), repeat=100_000)
        kept = list(split_records(ring.drain()))
        assert len(kept) == 4096 // 16 - 1  # the kernel never fills the last byte
        assert list(ring.records(timeout=0)) == []
    with pytest.raises(ClosedError):
        ring.drain()
    with pytest.raises(SpecError, match="RINGBUF"):
        RingBuffer(loaded.maps["hash"])


def test_pin_and_reopen(loaded: Object, bpffs: Path) -> None:
    loaded.maps["hash"].pin(bpffs / "hash")
    loaded.maps["hash"][bytes(8)] = {"signed_number": 7}
    with Map.from_pin(bpffs / "hash") as again:
        assert again[bytes(8)].signed_number == 7
        assert again.key_codec.decode(bytes(8)).a == 0
    (bpffs / "hash").unlink()
    with pytest.raises(KernelError):
        Map.from_pin(bpffs / "hash")


def test_pin_outside_bpffs_says_what_to_do(loaded: Object, tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="mount -t bpf"):
        loaded.maps["hash"].pin(tmp_path / "hash")


def test_reuse_checks_what_libbpf_does_not(spec: ObjectSpec, loaded: Object) -> None:
    with spec.load(reuse={"hash": loaded.maps["hash"]}) as twin:
        twin.maps["hash"][bytes(8)] = {"signed_number": 3}
        assert loaded.maps["hash"][bytes(8)].signed_number == 3
    with pytest.raises(ConflictError, match="keys of 8 and values of 32"):
        spec.load(reuse={"hash": loaded.maps["lru"]})


def test_use_after_close(spec: ObjectSpec) -> None:
    obj = spec.load()
    obj.close()
    obj.close()
    with pytest.raises(ClosedError, match="hash is closed"):
        len(obj.maps["hash"])


def test_an_unclosed_map_warns(spec: ObjectSpec) -> None:
    obj = spec.load()
    spare = Map.from_id(obj.maps["hash"].id)
    with pytest.warns(ResourceWarning, match="unclosed <Map hash"):
        del spare
    obj.close()
