# SPDX-License-Identifier: Apache-2.0
"""What an errno means by operation, confirmed by a probe: never a guess."""

from __future__ import annotations

import errno
import re

from pycilium.errors import (
    ClosedError,
    KernelError,
    NotSupportedError,
    PermissionDeniedError,
    VerifierError,
    describe_errno,
)

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_BPF": 39}
_BPFFS_MAGIC = "bpf"

_MEANINGS = {
    ("load", errno.E2BIG): "the program is too complex for the verifier",
    ("update map", errno.E2BIG): "the key is beyond the array, or the map is full",
    ("update map", errno.ENOSPC): "the trie is full",
    ("update map", errno.EEXIST): "the key exists already",
    ("create map", errno.ENOMEM): "the map is larger than the memory that is left",
    ("create map", errno.E2BIG): "the map is larger than the kernel allows",
    ("attach tcx", errno.EEXIST): "this program is attached there already",
    ("attach tcx", errno.ENODEV): "the interface is gone",
    ("attach xdp", errno.EBUSY): "another XDP program holds the interface",
    ("attach xdp", errno.ERANGE): "the MTU is too large for XDP on this driver",
    ("attach xdp", errno.EOPNOTSUPP): "the driver has no native XDP",
    ("attach cgroup", errno.EBADF): "the directory is not in a cgroup2 file system",
    ("update link", errno.ENOLINK): "what it was attached to is gone; the link is severed",
    ("pin", errno.EEXIST): "something is pinned there already",
    ("pin", errno.ENOENT): "the directory does not exist",
    ("test run", errno.ENODEV): "the context names an interface that this namespace lacks",
    ("test run", errno.EINVAL): "the packet is below 14 bytes or the context is not accepted",
}


def capability(name: str) -> bool:
    """Whether this process has a capability, from /proc/self/status."""
    with open("/proc/self/status") as status:  # noqa: PTH123 - procfs
        for line in status:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAPABILITIES[name] & 1)
    return False


def missing_capabilities() -> list[str]:
    """What BPF networking needs and this process lacks; CAP_SYS_ADMIN stands for CAP_BPF."""
    missing = []
    if not capability("CAP_BPF") and not capability("CAP_SYS_ADMIN"):
        missing.append("CAP_BPF")
    if not capability("CAP_NET_ADMIN"):
        missing.append("CAP_NET_ADMIN")
    return missing


def kernel_error(number: int, operation: str, name: str = "") -> KernelError:
    """The typed error of a failed operation; a cause is named only if a probe confirms it."""
    if operation in ("pin", "open pin") and not is_bpffs(name):
        return KernelError(number, operation, name, hint=bpffs_hint(name))
    if number in (errno.EPERM, errno.EACCES):
        missing = missing_capabilities()
        if missing:
            return PermissionDeniedError(
                number,
                operation,
                name,
                meaning=f"this process lacks {' and '.join(missing)}",
                hint="run as root, e.g. with sudo, or grant the capabilities",
            )
        return PermissionDeniedError(number, operation, name)
    if operation == "attach tcx" and number == errno.EINVAL:
        from pycilium.libbpf import features

        if not features.have_tcx():
            return NotSupportedError("tcx link", minimum_kernel="6.6", errno=number)
    return KernelError(number, operation, name, meaning=_MEANINGS.get((operation, number), ""))


def bpffs_hint(path: str) -> str:
    """The command that mounts a BPF file system, if the path is not on one."""
    if is_bpffs(path):
        return ""
    return f"{path} is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf"


def is_bpffs(path: str) -> bool:
    """Whether a path, existing or not, lies on a mounted BPF file system."""
    best, kind = "", ""
    with open("/proc/self/mounts") as mounts:  # noqa: PTH123 - procfs
        for line in mounts:
            _, where, this, *_ = line.split()
            inside = path == where or path.startswith(where.rstrip("/") + "/")
            if inside and len(where) >= len(best):
                best, kind = where, this
    return kind == _BPFFS_MAGIC


def load_error(number: int, name: str, log: str, messages: str) -> KernelError:
    """The verifier's refusal in one line, or what else stopped the load."""
    program = _failed_program(messages) or name
    if "processed" in log or "R1 " in log or ": (" in log:
        return VerifierError(number, program, summary=summarise(number, log), log=log)
    error = kernel_error(number, "load", program)
    detail = _last_message(messages)
    if detail and not error.hint and not isinstance(error, PermissionDeniedError):
        error.hint = f"libbpf says: {detail}"
    return error


def summarise(number: int, log: str) -> str:
    """The line that says what, the source line that says where, and how many were left out."""
    lines = [line for line in log.splitlines() if line.strip()]
    useful = [line for line in lines if not _is_noise(line)]
    if not useful:
        return describe_errno(number)
    reason = useful[-1].strip()
    source = next((line for line in reversed(lines) if line.lstrip().startswith(";")), "")
    instruction = next((line for line in reversed(lines) if re.match(r"\d+: \(", line)), "")
    parts = [reason]
    if instruction and instruction.strip() != reason:
        parts.append(f"at {instruction.split(';')[0].strip()}")
    if source:
        parts.append(f"in `{source.lstrip('; ').strip()}`")
    return f"{' '.join(parts)} ({len(lines) - 1} more lines in .log)"


def _is_noise(line: str) -> bool:
    return bool(
        re.match(r"(processed \d+|verification time|stack depth|max_states|;|\d+: |from \d+|"
                 r"-- |func#|Func#|Validating|Live regs|mark_)", line.strip())
    )  # fmt: skip


def _failed_program(messages: str) -> str:
    found = re.search(r"prog '([^']+)': (?:BPF program load failed|failed to load)", messages)
    return found.group(1) if found else ""


def _last_message(messages: str) -> str:
    lines = [line for line in messages.splitlines() if "ulimit" not in line and "--" not in line]
    return lines[0].removeprefix("libbpf: ") if lines else ""


def closed(kind: str, name: str) -> ClosedError:
    """Use after close."""
    return ClosedError(f"{kind} {name} is closed")
