# SPDX-License-Identifier: Apache-2.0
"""What the process may do and the kernel was built with: PYC-E1 to E8, E14 to E16."""

from __future__ import annotations

import errno
import re

from pycilium.doctor.machine import Machine
from pycilium.doctor.rule import Evidence, Rule, confirmed, likely, ruled_out
from pycilium.failure import Failure
from pycilium.libbpf.features import missing_capabilities

_BPF = ("load", "create map", "open")
_REFUSED = (errno.EPERM, errno.EACCES)
_FILTERED = (*_REFUSED, errno.ENOSYS)
_TRACING = {"KPROBE", "TRACEPOINT", "PERF_EVENT", "RAW_TRACEPOINT", "TRACING", "LSM"}
_CONFIG = {"fq": "NET_SCH_FQ", "fq_codel": "NET_SCH_FQ_CODEL", "clsact": "NET_SCH_INGRESS"}
_SETTINGS = ("/proc/config.gz", "/boot/config-{release}")
_LIMIT = re.compile(r"^Max locked memory\s+(\d+)", re.MULTILINE)
_STATUS = "/proc/self/status"


def capabilities_of(failure: Failure) -> tuple[str, ...]:
    """What an operation needs beyond what anybody may."""
    if failure.operation == "create map":
        return ("CAP_BPF",)
    if failure.program_type in _TRACING:
        return ("CAP_BPF", "CAP_PERFMON")
    return ("CAP_BPF", "CAP_NET_ADMIN")


def _missing(failure: Failure, machine: Machine) -> list[str] | None:
    status = machine.text(_STATUS)
    return None if status is None else missing_capabilities(status, capabilities_of(failure))


def _capabilities(failure: Failure, machine: Machine) -> Evidence:
    missing = _missing(failure, machine)
    if missing is None:
        return likely("its capabilities cannot be read")
    if failure.log:
        return ruled_out("the verifier was reached")
    if not missing:
        return ruled_out("the process has its capabilities")
    return confirmed(f"CapEff in {_STATUS}", missing=" and ".join(missing))


def _unprivileged(failure: Failure, machine: Machine) -> Evidence:
    value = (machine.text("/proc/sys/kernel/unprivileged_bpf_disabled") or "").strip()
    if value not in ("1", "2"):
        return ruled_out(f"kernel.unprivileged_bpf_disabled is {value or 'not there'}")
    if "CAP_BPF" not in (_missing(failure, machine) or ()):
        return ruled_out("the process has CAP_BPF")
    return confirmed(f"kernel.unprivileged_bpf_disabled is {value}")


def _memlock(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    version = release(machine)
    if version >= (5, 11):
        return ruled_out(f"Linux {machine.release} does not count BPF memory against it")
    found = _LIMIT.search(machine.text("/proc/self/limits") or "")
    if found is None:
        return likely(f"Linux {machine.release}")
    if int(found[1]) >= 64 << 20:
        return ruled_out(f"the limit is {found[1]} bytes")
    return confirmed(f"Linux {machine.release} and a limit of {found[1]} bytes")


def _forbidden_type(failure: Failure, machine: Machine) -> Evidence:
    excluded = (
        ("a verifier's log", bool(failure.log)),
        ("missing capabilities", bool(_missing(failure, machine))),
        ("a filter of system calls", machine.answer_to_nonsense() in _FILTERED),
        ("SELinux", (machine.text("/sys/fs/selinux/enforce") or "0").strip() == "1"),
        ("lockdown", _locked(machine)),
    )
    other = next((name for name, found in excluded if found), "")
    if other:
        return ruled_out(f"there is {other}")
    if machine.loads("SCHED_CLS") is False:
        return ruled_out("no type of program loads")
    return likely("capabilities, filters, SELinux and lockdown are ruled out, and tc programs load")


def _locked(machine: Machine) -> bool:
    return "[confidentiality]" in (machine.text("/sys/kernel/security/lockdown") or "")


def _lockdown(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if not _locked(machine):
        return ruled_out("the kernel is not locked down for confidentiality")
    return confirmed("/sys/kernel/security/lockdown is [confidentiality]")


def _selinux(failure: Failure, machine: Machine) -> Evidence:
    if (machine.text("/sys/fs/selinux/enforce") or "0").strip() != "1":
        return ruled_out("SELinux does not enforce")
    denied = re.search(r"avc:\s+denied\s+\{ (\w+) \}.*tclass=bpf", failure.text)
    if denied:
        return confirmed(f"the audit log has a denied {denied[1]}")
    return likely("SELinux enforces; ausearch -m avc shows whether it was this")


def _seccomp(failure: Failure, machine: Machine) -> Evidence:
    if _missing(failure, machine):
        return ruled_out("capabilities are missing, which is enough")
    found = re.search(r"^Seccomp:\s*(\d)", machine.text(_STATUS) or "", re.MULTILINE)
    if found is None or found[1] != "2":
        return ruled_out("the process has no filter of system calls")
    if machine.answer_to_nonsense() not in _FILTERED:
        return ruled_out("its filter lets bpf(2) through")
    return confirmed("even an unknown bpf(2) command is refused")


def _no_btf(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if machine.exists("/sys/kernel/btf/vmlinux"):
        return ruled_out("/sys/kernel/btf/vmlinux is there")
    return confirmed("there is no /sys/kernel/btf/vmlinux")


def setting(machine: Machine, name: str) -> str | None:
    """A setting of the kernel's build: "y", "m", "n"; None where its configuration is not shown."""
    for path in _SETTINGS:
        text = machine.text(path.format(release=machine.release))
        if text is not None:
            found = re.search(rf"^CONFIG_{name}=(\w+)", text, re.MULTILINE)
            return found[1] if found else "n"
    return None


def _not_built(failure: Failure, machine: Machine) -> Evidence:
    if not failure.kind:
        return likely("")
    name = _CONFIG.get(failure.kind, failure.kind.upper())
    value, values = setting(machine, name), {"kind": failure.kind, "setting": name}
    if value is None:
        return likely("the kernel does not show its configuration", **values)
    if value == "n":
        return confirmed(f"CONFIG_{name} is not set", **values)
    if value == "m":
        return likely(f"CONFIG_{name} is a module that may not be loaded", **values)
    return ruled_out(f"CONFIG_{name} is {value}")


def _jit(machine: Machine) -> str:
    return (machine.text("/proc/sys/net/core/bpf_jit_enable") or "").strip()


def _not_compiled(failure: Failure, machine: Machine) -> Evidence:
    about = f"{machine.architecture}, net.core.bpf_jit_enable {_jit(machine) or 'unknown'}"
    if failure.errno != 524 and "524" not in failure.text:
        return likely(about)
    return confirmed(f"errno 524, {about}")


def _no_jit(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if _jit(machine) == "0":
        return confirmed("net.core.bpf_jit_enable is 0")
    return likely("the JIT is on, and has failed for this program")


def release(machine: Machine) -> tuple[int, int]:
    """Major and minor."""
    found = re.match(r"(\d+)\.(\d+)", machine.release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


RULES = (
    Rule(
        code="PYC-E1",
        title="The process lacks capabilities",
        operations=_BPF,
        errnos=_REFUSED,
        said=r"Couldn't load trivial BPF program",
        probe=_capabilities,
        cause="this process lacks {missing}",
        fix="run as root, e.g. with sudo, or grant the capabilities: "
        "AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON in a systemd unit",
        more="libbpf answers this with a remark on RLIMIT_MEMLOCK, which has not mattered since "
        "Linux 5.11. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.",
    ),
    Rule(
        code="PYC-E2",
        title="BPF is closed to unprivileged users",
        operations=_BPF,
        errnos=_REFUSED,
        probe=_unprivileged,
        cause="unprivileged BPF is off, and this process has no CAP_BPF",
        fix="grant CAP_BPF; leave kernel.unprivileged_bpf_disabled as it is",
        more="Nearly every distribution closes it, because of speculation attacks. Networking "
        "programs would need CAP_NET_ADMIN even if it were open.",
    ),
    Rule(
        code="PYC-E3",
        title="The limit of locked memory is too low",
        operations=_BPF,
        errnos=(errno.EPERM, errno.E2BIG),
        said=r"MEMLOCK may be too low|RLIMIT_MEMLOCK",
        probe=_memlock,
        cause="the kernel counts maps and programs against RLIMIT_MEMLOCK, which is small",
        fix="ulimit -l unlimited, or LimitMEMLOCK=infinity in a systemd unit",
        more="Only kernels before Linux 5.11 count this way; on a later one the advice of other "
        "tools to raise the limit changes nothing.",
    ),
    Rule(
        code="PYC-E5",
        title="The kernel is locked down",
        operations=("load",),
        said=r"(program of this type cannot use(?: helper)?|unknown func) bpf_probe_(read|write)"
        r"|Lockdown:.*use of bpf",
        probe=_lockdown,
        cause="the kernel is locked down for confidentiality, so programs may not read its memory",
        fix="boot with lockdown=integrity, or do without tracing helpers; tc, XDP and cgroup "
        "programs are not affected",
        more="Secure Boot often turns lockdown on. The verifier then says that the helper is not "
        "for this type of program, which it is elsewhere.",
    ),
    Rule(
        code="PYC-E6",
        title="SELinux denies bpf",
        operations=_BPF,
        errnos=_REFUSED,
        said=r"avc:\s+denied.*tclass=bpf",
        probe=_selinux,
        cause="SELinux does not let this domain use bpf(2)",
        fix="ausearch -m avc -c python3 | audit2allow -M pycilium && semodule -i pycilium.pp, or "
        "a newer container-selinux",
        more="The domain needs prog_load, prog_run, map_create, map_read and map_write of class "
        "bpf.",
    ),
    Rule(
        code="PYC-E7",
        title="A filter of system calls refuses bpf",
        operations=_BPF,
        errnos=_FILTERED,
        probe=_seccomp,
        cause="the container's seccomp filter refuses bpf(2)",
        fix="--cap-add BPF --cap-add NET_ADMIN --cap-add PERFMON with a seccomp profile that "
        "allows "
        "bpf",
        more="The probe asks the kernel for a command that no kernel has. A kernel that is reached "
        "says EINVAL.",
    ),
    Rule(
        code="PYC-E8",
        title="The kernel has no type information",
        operations=("load", "attach tracepoint"),
        said=r"failed to find valid kernel BTF|Error loading vmlinux BTF|no BTF found for kernel",
        probe=_no_btf,
        cause="the kernel was built without CONFIG_DEBUG_INFO_BTF",
        fix="use a kernel with BTF; pycilium's tc, XDP and cgroup programs do without",
        more="Only CO-RE, fentry, iterators and kernel functions need the kernel's BTF.",
    ),
    Rule(
        code="PYC-E14",
        title="The kernel was built without it",
        operations=("create*", "add*", "set*"),
        said=r"Unknown device type|Specified qdisc kind is unknown",
        probe=_not_built,
        cause="the kernel has no {kind}",
        fix="modprobe {kind}, or use a kernel with CONFIG_{setting}",
        more="pycilium needs veth; without the netkit device, for example, it loses nothing.",
    ),
    Rule(
        code="PYC-E15",
        title="The JIT cannot do it",
        operations=("load", "attach*"),
        errnos=(524,),
        said=r"strerror_r\(524\)|error 524|ENOTSUPP",
        probe=_not_compiled,
        cause="the verifier accepted the program, and the JIT cannot compile it on this machine",
        fix="a smaller program, another hook, or a newer kernel",
        more="524 is ENOTSUPP, which the kernel does not mean for users: no trampolines on arm64 "
        "before Linux 6.2, no kernel functions on ppc64, a program beyond net.core.bpf_jit_limit.",
    ),
    Rule(
        code="PYC-E16",
        title="The JIT is off",
        operations=("load",),
        said=r"callbacks are not allowed in non-JITed programs",
        probe=_no_jit,
        cause="callbacks need the JIT",
        fix="sysctl net.core.bpf_jit_enable=1",
        more="Loops with bpf_loop and timers have callbacks.",
    ),
    Rule(
        code="PYC-E4",
        title="The kernel refuses this type of program to everybody",
        operations=("load",),
        errnos=(errno.EPERM,),
        probe=_forbidden_type,
        cause="the kernel or its hypervisor refuses programs of this type",
        fix="use another hook: a raw tracepoint in place of fentry, for example",
        more="Seen on hardened virtual machines: fentry and LSM programs are refused with an empty "
        "log, and programs for tc, XDP and tracepoints load.",
    ),
)
