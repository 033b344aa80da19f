# SPDX-License-Identifier: Apache-2.0
"""Programs that do not get onto their hook: PYC-A1 to PYC-A12."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from pycilium.doctor.machine import Machine
from pycilium.doctor.rule import Evidence, Rule, confirmed, likely, ruled_out
from pycilium.failure import Failure
from pycilium.libbpf.features import missing_capabilities

if TYPE_CHECKING:
    from pycilium.net.devices import Device

_XDP = ("attach xdp", "set XDP of link")
_HEADROOM, _TAIL, _ETHERNET = 256, 320, 14  # XDP_PACKET_HEADROOM, skb_shared_info, the header
_TYPES = {
    "attach xdp": ("XDP",),
    "attach tcx": ("SCHED_CLS",),
    "attach tc filter": ("SCHED_CLS", "SCHED_ACT"),
    "attach cgroup": ("CGROUP_SOCK_ADDR", "CGROUP_SOCK", "CGROUP_SKB", "CGROUP_DEVICE",
                      "CGROUP_SYSCTL", "CGROUP_SOCKOPT", "SOCK_OPS"),
}  # fmt: skip
_MTU_SAID = re.compile(
    r"MTU is too large|Numerical result out of range|does not support XDP frags|MTU too large"
)
_QUEUES = (
    r"Too few free TX rings|while host is implementing|XDP expects header/data in single page"
    r"|disable (?:LRO|GRO_HW)"
)


def _device(failure: Failure, machine: Machine) -> tuple[Device | None, dict[str, object]]:
    found = machine.device(failure.ifindex)
    return found, {"device": found.name} if found else {}


def largest_mtu(page: int) -> int:
    """What native XDP can take where a frame must fit into one page."""
    return page - _HEADROOM - _TAIL - _ETHERNET


def _mtu(failure: Failure, machine: Machine) -> Evidence:
    device, known = _device(failure, machine)
    limit = largest_mtu(machine.page_size)
    values = {**known, "mtu": limit}
    if _MTU_SAID.search(failure.text):
        return confirmed(_kernel_says(failure), **values)
    if device is None:
        return likely("the device cannot be read", **values)
    about = f"MTU {device.mtu} of {device.name}, {limit} fit into a page"
    if device.mtu > limit:
        sure = failure.errno == errno.ERANGE
        return confirmed(about, **values) if sure else likely(about, **values)
    if failure.errno == errno.ERANGE and device.kind == "veth":
        return likely(f"{about}; its peer's MTU counts", **values)
    return ruled_out(about)


def _kernel_says(failure: Failure) -> str:
    said = (failure.kernel_text or failure.messages).strip().splitlines()
    return f"the kernel says {said[0]}" if said else ""


def _taken(failure: Failure, machine: Machine) -> Evidence:
    device, values = _device(failure, machine)
    if device is None:
        return likely("the device cannot be read")
    if not device.xdp_program:
        return ruled_out(f"{device.name} has no XDP program now")
    owner = machine.xdp_owner(device.index, device.xdp_program)
    program = machine.program_name(device.xdp_program)
    return confirmed(f"{device.name} has {program} by {owner}", **values)


def _other_mode(failure: Failure, machine: Machine) -> Evidence:
    device, values = _device(failure, machine)
    if "can't be active at the same time" in failure.text:
        return confirmed(_kernel_says(failure), **values)
    if device is None:
        return likely("the device cannot be read")
    if not device.xdp_mode or device.xdp_mode == failure.mode.lower():
        return ruled_out(f"{device.name} has no XDP program in another mode")
    return confirmed(f"{device.name} has one in {device.xdp_mode} mode", **values)


def _by_link(failure: Failure, machine: Machine) -> Evidence:
    device, values = _device(failure, machine)
    if "Can't replace active BPF XDP link" in failure.text:
        return confirmed(_kernel_says(failure), **values)
    if device is None or not device.xdp_program:
        return ruled_out("there is no XDP program on it now")
    owner = machine.xdp_owner(device.index, device.xdp_program)
    if owner.startswith("no link"):
        return ruled_out(owner)
    return confirmed(owner, **values)


def _no_native(failure: Failure, machine: Machine) -> Evidence:
    device, values = _device(failure, machine)
    if "does not support XDP in native mode" in failure.text:
        return confirmed(_kernel_says(failure), **values)
    if failure.mode == "GENERIC":
        return ruled_out("generic mode was asked for")
    if device is None or device.xdp_features is None:
        return likely("the kernel does not say what the driver can", **values)
    if "basic" in device.xdp_features:
        return ruled_out(f"{device.driver or device.name} has native XDP")
    return confirmed(f"{device.name} has no XDP feature", **values)


def _queues(failure: Failure, machine: Machine) -> Evidence:
    device, values = _device(failure, machine)
    if re.search(_QUEUES, failure.text):
        return confirmed(_kernel_says(failure), **values)
    if device is None:
        return likely("the device cannot be read")
    if device.driver not in ("virtio_net", "ena", "vmxnet3", "hv_netvsc"):
        return ruled_out(f"{device.name} is no network card of a virtual machine")
    return likely(f"{device.name} is a {device.driver}", **values)


def _wrong_type(failure: Failure, machine: Machine) -> Evidence:
    wanted = _TYPES.get(failure.operation, ())
    if failure.operation == "attach tcx" and not machine.has_tcx():
        return confirmed(f"Linux {machine.release} has no TCX: 6.6 brought it", hook="clsact")
    hook = failure.operation.removeprefix("attach ")
    if failure.program_type and failure.program_type not in wanted:
        about = f"a program of type {failure.program_type.lower()}"
        return confirmed(f"{about}, where {hook} takes {wanted[0].lower()}", hook=hook)
    if failure.operation == "attach cgroup":
        return likely(f"a program for another call than {failure.hook}", hook=failure.hook)
    return ruled_out(f"the program is of type {failure.program_type.lower()}")


def _chain(failure: Failure, machine: Machine) -> Evidence:
    device, values = _device(failure, machine)
    if failure.errno == errno.ENODEV:
        if device is None:
            return confirmed(
                f"there is no ifindex {failure.ifindex} in this namespace", what="gone"
            )
        return ruled_out(f"{device.name} is there")
    if failure.errno == errno.ESTALE:
        return likely("its revision is another by now", what="changed", **values)
    chain = machine.chain(failure.ifindex)
    place = f"{failure.hook.lower()} "
    if any(one.startswith(place) and f"({failure.program_id})" in one for one in chain):
        return confirmed(f"it runs {', '.join(chain)}", what="attached there already", **values)
    return ruled_out("this program is not on that hook")


def _said(failure: Failure, machine: Machine) -> Evidence:
    return confirmed(_kernel_says(failure), **_device(failure, machine)[1])


def _no_kprobes(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    path = "/sys/bus/event_source/devices"
    if not machine.names(path):
        return likely(f"{path} cannot be read")
    if machine.exists(f"{path}/kprobe"):
        return ruled_out(f"there is {path}/kprobe")
    return confirmed(f"there is no {path}/kprobe")


def _net_admin(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    status = machine.text("/proc/self/status")
    if status is None:
        return likely("its capabilities cannot be read")
    if missing_capabilities(status, ("CAP_NET_ADMIN",)):
        return confirmed("CapEff in /proc/self/status")
    if (machine.text("/proc/self/uid_map") or "").split() == ["0", "0", "4294967295"]:
        return ruled_out("the process has CAP_NET_ADMIN")
    return likely("the process has it in its own user namespace, which may not own the network")


RULES = (
    Rule(
        code="PYC-A1",
        title="The MTU is too large for XDP",
        operations=_XDP,
        errnos=(errno.ERANGE, errno.EINVAL),
        said=_MTU_SAID.pattern,
        probe=_mtu,
        cause="the MTU is too large for XDP in the driver: a frame must fit into a page",
        fix="ip link set dev {device} mtu {mtu}; or a program for fragments, or generic mode, "
        "which "
        "costs several times as much",
        more="For a veth the MTU of its peer counts. Drivers answer ERANGE or a bare EINVAL; the "
        "kernel's own words for a link go to a tracepoint, from which pycilium reads them.",
    ),
    Rule(
        code="PYC-A3",
        title="XDP in another mode is active",
        operations=_XDP,
        errnos=(errno.EEXIST,),
        said=r"Native and generic XDP can't be active at the same time",
        probe=_other_mode,
        cause="another XDP program holds the interface in the other mode",
        fix="attach in the mode that is active, or take that one off: ip link set dev {device} "
        "xdp off",
        more="Native and generic XDP exclude each other on a device.",
    ),
    Rule(
        code="PYC-A4",
        title="The XDP program belongs to a link",
        operations=("set XDP of link",),
        errnos=(errno.EBUSY,),
        said=r"Can't replace active BPF XDP link",
        probe=_by_link,
        cause="the XDP program is held by a link, which netlink cannot replace",
        fix="close or unpin that link",
        more="ip link set dev DEVICE xdp off works only on programs that were put there that way.",
    ),
    Rule(
        code="PYC-A2",
        title="Another XDP program holds the interface",
        operations=_XDP,
        errnos=(errno.EBUSY, errno.EEXIST),
        said=r"XDP program already attached",
        probe=_taken,
        cause="another XDP program holds the interface",
        fix="stop its owner, or remove its pin; without a link: ip link set dev {device} xdp off",
        more="One program per device and mode. It may be of a process that was killed and had "
        "pinned its link. No reboot is needed.",
    ),
    Rule(
        code="PYC-A6",
        title="The virtual machine's network card lacks queues",
        operations=_XDP,
        errnos=(errno.ENOMEM, errno.EOPNOTSUPP),
        said=_QUEUES,
        probe=_queues,
        cause="the driver lacks queues for XDP, or an offload is on that excludes it",
        fix="ethtool -K {device} lro off gro off, more queues in the hypervisor, or generic mode",
        more="virtio_net wants a sending queue for every CPU beside those of the stack.",
    ),
    Rule(
        code="PYC-A5",
        title="The driver has no native XDP",
        operations=_XDP,
        errnos=(errno.EOPNOTSUPP,),
        said=r"does not support XDP in native mode",
        probe=_no_native,
        cause="the driver of the device has no XDP",
        fix="generic mode, which costs several times as much, or a tc program",
        more="Linux 6.3 and later say for each device what its XDP can; pycilium doctor --only "
        "devices shows it.",
    ),
    Rule(
        code="PYC-A7",
        title="The program is not for this hook",
        operations=("attach xdp", "attach tcx", "attach cgroup"),
        errnos=(errno.EINVAL,),
        probe=_wrong_type,
        cause="the hook does not take this program",
        fix="attach a program that was made for {hook}: its SEC() says for what it is",
        more="A program of another type, one for another call of the same type, a hook that this "
        "kernel does not have: to all of these the kernel answers EINVAL without a word.",
    ),
    Rule(
        code="PYC-A8",
        title="The chain of programs does not take it",
        operations=("attach tcx",),
        errnos=(errno.EEXIST, errno.ESTALE, errno.ENODEV),
        probe=_chain,
        cause="the place in the chain is {what}",
        fix="read the chain again: pycilium.libbpf.attachments(ifindex, hook)",
        more="EEXIST: the same program is there already. ESTALE: the chain changed meanwhile. "
        "ENODEV: the device is gone, or in another network namespace.",
    ),
    Rule(
        code="PYC-A9",
        title="The device has no clsact",
        operations=("attach tc filter", "add*"),
        said=r"Parent Qdisc doesn'?t exist",
        probe=_said,
        cause="a tc filter needs a clsact on the device",
        fix="tc qdisc add dev {device} clsact; pycilium does it, and uses TCX where there is TCX",
        more="TCX (Linux 6.6) needs no qdisc.",
    ),
    Rule(
        code="PYC-A10",
        title="clsact is there already",
        operations=("attach tc filter", "add*"),
        said=r"Exclusivity flag on, cannot modify",
        probe=_said,
        cause="clsact is on the device already, which is harmless",
        fix="nothing: go on with the filter",
        more="Tools that create clsact each time print this each time.",
    ),
    Rule(
        code="PYC-A11",
        title="The kernel has no kprobes",
        operations=("attach kprobe", "attach tracepoint"),
        errnos=(errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL),
        said=r"create raw tracepoint: not supported|failed to create kprobe"
        r"|kprobe perf type|determine kprobe",
        probe=_no_kprobes,
        cause="the kernel was built without kprobes; the program loads and cannot be attached",
        fix="use a tracepoint",
        more="pycilium's datapath needs no kprobe.",
    ),
    Rule(
        code="PYC-A12",
        title="The process may not configure the network",
        operations=("attach xdp", "attach tcx", "attach cgroup", "attach tc filter", "create *",
                    "set *", "add *", "delete *", "move *", "rename *", "replace *"),
        errnos=(errno.EPERM,),
        said=r"RTNETLINK answers: Operation not permitted",
        probe=_net_admin,
        cause="this process lacks CAP_NET_ADMIN",
        fix="run as root, e.g. with sudo, or grant the capability",
        more="It counts in the user namespace that owns the network namespace.",
    ),
)  # fmt: skip
