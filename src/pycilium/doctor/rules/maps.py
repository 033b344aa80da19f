# SPDX-License-Identifier: Apache-2.0
"""Maps that cannot be made, written or pinned: PYC-M1 to PYC-M8."""

from __future__ import annotations

import errno
import re

from pycilium.doctor.machine import Machine
from pycilium.doctor.rule import Evidence, Rule, confirmed, likely, ruled_out
from pycilium.failure import Failure

_NO_PREALLOC = 1
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB", re.MULTILINE)
_ARRAYS = ("ARRAY", "PERCPU_ARRAY", "ARRAY_OF_MAPS", "PROG_ARRAY", "DEVMAP", "CPUMAP", "XSKMAP")


def _full(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if failure.map_type in _ARRAYS or failure.map_type == "LPM_TRIE":
        return ruled_out(f"a map of type {failure.map_type.lower()} fails otherwise")
    return _fill(failure)


def _trie_full(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if failure.map_type not in ("", "LPM_TRIE"):
        return ruled_out(f"it is a map of type {failure.map_type.lower()}")
    return _fill(failure)


def _fill(failure: Failure) -> Evidence:
    values = {"map": failure.object or "the map", "size": 2 * failure.max_entries or "SIZE"}
    if failure.used < 0 or not failure.max_entries:
        return likely("how full it is was not asked", **values)
    used = f"{failure.used} of {failure.max_entries} entries are used"
    if failure.used + failure.needed > failure.max_entries:
        return confirmed(used, **values)
    return ruled_out(used)


def _beyond(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if failure.map_type not in _ARRAYS:
        return ruled_out("it is no array") if failure.map_type else likely("its type is not known")
    return confirmed(f"the index is beyond the array's {failure.max_entries} entries")


def _too_big(failure: Failure, machine: Machine) -> Evidence:
    size = (failure.key_size + failure.value_size) * failure.max_entries
    found = re.search(
        r"^MemAvailable:\s+(\d+) kB", machine.text("/proc/meminfo") or "", re.MULTILINE
    )
    if not size or found is None:
        return likely("its size is not known")
    needs = (
        f"{size >> 20} MiB of keys and values, {int(found[1]) >> 10} MiB of memory are available"
    )
    return confirmed(needs) if size > int(found[1]) << 10 else likely(needs)


def _preallocated(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if failure.map_type != "LPM_TRIE":
        return ruled_out("it is no trie") if failure.map_type else likely("its type is not known")
    if failure.flags & _NO_PREALLOC:
        return ruled_out("it has BPF_F_NO_PREALLOC")
    return confirmed(f"its flags are {failure.flags}")


def _ring_size(failure: Failure, machine: Machine) -> Evidence:
    page, size = machine.page_size, failure.max_entries
    if failure.map_type not in ("", "RINGBUF", "USER_RINGBUF"):
        return ruled_out("it is no ring")
    if not size:
        return likely("its size is not known", page=page)
    if size % page == 0 and size & (size - 1) == 0:
        return ruled_out(f"{size} is a power of two of pages of {page} bytes")
    return confirmed(f"{size} bytes, pages of {page}", page=page)


def _stale(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if "parameter mismatch" in failure.text or "map specs differ" in failure.text:
        return confirmed("the sizes or flags of the two differ")
    return likely("compare them: bpftool map show pinned PATH")


def _exists(failure: Failure, machine: Machine) -> Evidence:
    if not failure.path:
        return likely("the path is not known")
    if machine.exists(failure.path):
        return confirmed(f"there is a {failure.path}", path=failure.path)
    return ruled_out(f"there is no {failure.path} now")


RULES = (
    Rule(
        code="PYC-M1",
        title="The map is full",
        operations=("update map",),
        errnos=(errno.E2BIG,),
        said=r"key too big for map",
        probe=_full,
        cause="the map is full",
        fix='open the datapath with a larger size for it: sizes={{"{map}": {size}}}',
        more="The errno is E2BIG, 'Argument list too long'. Nothing is written when it does not "
        "fit. A loaded map does not grow: open a new datapath, or remove entries.",
    ),
    Rule(
        code="PYC-M2",
        title="The index is beyond the array",
        operations=("update map",),
        errnos=(errno.E2BIG,),
        probe=_beyond,
        cause="an array has every index below its size, and no other",
        fix="use an index below max_entries, or load with more entries",
        more="The errno is that of a full hash map.",
    ),
    Rule(
        code="PYC-M3",
        title="The trie is full",
        operations=("update map",),
        errnos=(errno.ENOSPC,),
        probe=_trie_full,
        cause="the trie is full",
        fix='open the datapath with a larger size for it: sizes={{"{map}": {size}}}',
        more="The errno is ENOSPC, 'No space left on device'; no disk is meant.",
    ),
    Rule(
        code="PYC-M4",
        title="The map is larger than the memory",
        operations=("create map",),
        errnos=(errno.ENOMEM, errno.E2BIG, errno.EOVERFLOW),
        probe=_too_big,
        cause="the map is larger than the memory that is left",
        fix="load with fewer entries: max_entries={{...}}, or raise the cgroup's memory.max",
        more="Maps are allocated whole, unless they are made with BPF_F_NO_PREALLOC. libbpf's "
        "'Retrying without BTF' before it means nothing.",
    ),
    Rule(
        code="PYC-M5",
        title="A trie without BPF_F_NO_PREALLOC",
        operations=("create map",),
        errnos=(errno.EINVAL,),
        probe=_preallocated,
        cause="a trie must be made with BPF_F_NO_PREALLOC",
        fix="__uint(map_flags, BPF_F_NO_PREALLOC);",
        more="The kernel allocates the nodes of a trie one by one, and refuses anything else.",
    ),
    Rule(
        code="PYC-M6",
        title="The size of a ring",
        operations=("create map",),
        errnos=(errno.EINVAL,),
        said=r"ring map size \d+ not a multiple of page size",
        probe=_ring_size,
        cause="a ring's size must be a power of two and a multiple of the page size",
        fix="compute it at run time: max_entries={{...: {page} << n}}",
        more="Pages of 64 KiB are usual on arm64 and ppc64: a ring of 4096 bytes works on x86 "
        "only.",
    ),
    Rule(
        code="PYC-M7",
        title="The pinned map is of another version",
        operations=("open pin", "reuse map", "create map"),
        errnos=(errno.EACCES,),
        said=r"parameter mismatch|load pinned map: permission denied|map specs differ",
        probe=_stale,
        cause="what is pinned there was made by another version, or by another user",
        fix="take the datapath down with the version that made it, or pin under another name",
        more="pycilium compares key size, value size and type itself: libbpf takes a map of "
        "another "
        "value size in silence.",
    ),
    Rule(
        code="PYC-M8",
        title="Something is pinned there already",
        operations=("pin",),
        errnos=(errno.EEXIST,),
        said=r"failed to pin program",
        probe=_exists,
        cause="something is pinned there already",
        fix="Datapath.adopt(NAME) takes over what is pinned; rm {path} lets it go",
        more="bpftool reports this without an errno.",
    ),
)
