# SPDX-License-Identifier: Apache-2.0
"""The file systems of pins and of cgroups, and who sees them: PYC-E9 to PYC-E13."""

from __future__ import annotations

import errno

from pycilium.doctor.machine import Machine
from pycilium.doctor.rule import Evidence, Rule, confirmed, likely, ruled_out
from pycilium.failure import Failure
from pycilium.libbpf.features import file_system

_FIRST_CGROUPS = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO
_MOUNTS = "/proc/self/mounts"


def _no_bpffs(failure: Failure, machine: Machine) -> Evidence:
    path = failure.path or "/sys/fs/bpf"
    mounts = machine.text(_MOUNTS)
    if mounts is None:
        return likely("its mounts cannot be read", path=path)
    kind = file_system(path, mounts)
    if kind == "bpf":
        return ruled_out(f"{path} is on a BPF file system")
    return confirmed(f"{path} is on {kind or 'no file system'}", path=path)


def _other_mounts(failure: Failure, machine: Machine) -> Evidence:
    path = failure.path or "/sys/fs/bpf"
    ours, first = (machine.target(f"/proc/{pid}/ns/mnt") for pid in ("self", "1"))
    if not ours or not first or ours == first:
        return ruled_out("the process has the mounts of process 1")
    theirs, mine = machine.text("/proc/1/mounts"), machine.text(_MOUNTS)
    if theirs is None or mine is None:
        return likely("the process has a mount namespace of its own")
    if file_system(path, theirs) == "bpf" and file_system(path, mine) != "bpf":
        return confirmed(f"for process 1, {path} is on a BPF file system")
    return ruled_out(f"both see {path} on the same kind of file system")


def _hidden(failure: Failure, machine: Machine) -> Evidence:
    path = failure.path or "/sys/fs/bpf"
    mounts = [line.split() for line in (machine.text(_MOUNTS) or "").splitlines()]
    over = [m[1] for m in mounts if m[2] == "bpf" and f"{path}/".startswith(f"{m[1].rstrip('/')}/")]
    if len(over) < 2:
        return ruled_out(f"at most one BPF file system is mounted over {path}")
    return confirmed(f"{len(over)} are mounted over {path}", path=over[-1])


def _no_cgroup2(failure: Failure, machine: Machine) -> Evidence:
    mounts = machine.text(_MOUNTS)
    if mounts is None:
        return likely("its mounts cannot be read")
    kind = file_system(failure.path, mounts)
    if kind == "cgroup2":
        return ruled_out(f"{failure.path} is on cgroup2")
    right = next((line.split()[1] for line in mounts.splitlines() if " cgroup2 " in line), "")
    values = {"root": right} if right else {}
    return confirmed(f"{failure.path} is on {kind or 'no file system'}", **values)


def _private_cgroup(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    ours, first = (machine.target(f"/proc/{pid}/ns/cgroup") for pid in ("self", "1"))
    if not ours:
        return ruled_out("the kernel has no cgroup namespaces")
    if ours == _FIRST_CGROUPS:
        return ruled_out("the process has the machine's first cgroup namespace")
    if not first:
        return likely("the cgroup namespaces cannot be compared")
    if ours == first:
        return ruled_out("the process has the cgroup namespace of process 1")
    return confirmed(f"{ours} here, {first} of process 1")


RULES = (
    Rule(
        code="PYC-E9",
        title="No BPF file system is mounted there",
        operations=("pin", "open pin"),
        errnos=(errno.EINVAL, errno.EPERM, errno.ENOENT, errno.EACCES),
        said=r"can't mount BPF file system|not in a bpf file system",
        probe=_no_bpffs,
        cause="the path is not on a BPF file system",
        fix="mount -t bpf bpf /sys/fs/bpf",
        more="pycilium never mounts it by itself. The errno of a pin elsewhere differs by kernel.",
    ),
    Rule(
        code="PYC-E10",
        title="The pin is in another mount namespace",
        operations=("open pin", "check bpffs"),
        errnos=(errno.ENOENT, errno.EACCES),
        probe=_other_mounts,
        cause="this process has other mounts than the one that pinned",
        fix="nsenter --net=/run/netns/NAME in place of ip netns exec, which mounts /sys anew",
        more="pycilium.net.NetNS enters a network namespace without touching the mounts.",
    ),
    Rule(
        code="PYC-E11",
        title="A second BPF file system hides the pins",
        operations=("open pin", "check bpffs"),
        errnos=(errno.ENOENT,),
        probe=_hidden,
        cause="a BPF file system is mounted over another one, whose files it hides",
        fix="umount {path}",
        more="bpftool mounts one over the directory that it is told to pin into.",
    ),
    Rule(
        code="PYC-E12",
        title="The directory is not in cgroup2",
        operations=("attach cgroup",),
        errnos=(errno.EBADF,),
        probe=_no_cgroup2,
        cause="the directory is not in a cgroup2 file system",
        fix="use a directory below {root}",
        more="On a machine with cgroup v1, cgroup2 is usually at /sys/fs/cgroup/unified.",
    ),
    Rule(
        code="PYC-E13",
        title="The cgroup is that of a container",
        operations=("check cgroup",),
        probe=_private_cgroup,
        cause="this process has a cgroup namespace of its own: socket programs that are attached "
        "at "
        "its root see no other process of the machine",
        fix="mount the host's cgroup2 into the container, or run it with --cgroupns=host",
        more="Attaching succeeds, and the addresses of services are then never translated for the "
        "processes of the host and of other containers.",
    ),
)
