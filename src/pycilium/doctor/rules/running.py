# SPDX-License-Identifier: Apache-2.0
"""What goes wrong although every call succeeded: PYC-R1 to PYC-R8."""

from __future__ import annotations

import errno
import re

from pycilium.doctor.machine import Machine
from pycilium.doctor.rule import Evidence, Rule, confirmed, likely, ruled_out
from pycilium.failure import Failure

_CONF = "/proc/sys/net/ipv4/conf"
_CHAINS = re.compile(r"(?:FLANNEL-|CILIUM_|OLD_CILIUM_|cali-|WEAVE-|KUBE-ROUTER-)\S*")
_DEVICES = re.compile(r"(?:cilium_\w+|flannel\.\d+|cali\w{6,}|vxlan\.calico|weave|kube-bridge)$")
_VXLAN_PORT = 8472
_NET_D = "/etc/cni/net.d"
_CONFIGURATIONS = (".conf", ".conflist", ".json")
_NETWORKD = "/etc/systemd/networkd.conf"


def _rp_filter(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    everywhere = _number(machine, "all")
    carrying = [one for one in machine.devices() if machine.chain(one.index) or one.xdp_program]
    strict = [one.name for one in carrying if max(everywhere, _number(machine, one.name)) == 1]
    if not carrying:
        return ruled_out("no device has a program")
    if not strict:
        return ruled_out("no device with a program has a strict one")
    return confirmed(f"net.ipv4.conf.*.rp_filter is 1 on {_some(strict)}", device=strict[0])


def _number(machine: Machine, name: str) -> int:
    text = (machine.text(f"{_CONF}/{name}/rp_filter") or "").strip()
    return int(text) if text.isdigit() else 0


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _networkd(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if not machine.exists("/run/systemd/netif/state"):
        return ruled_out("systemd-networkd does not run")
    folder = f"{_NETWORKD}.d"
    paths = [_NETWORKD, *(f"{folder}/{name}" for name in machine.names(folder))]
    text = "\n".join(machine.text(path) or "" for path in paths)
    kept = r"^\s*ManageForeign{}\s*=\s*(no|false|0)\s*$"
    open_ = [
        word
        for word in ("Routes", "RoutingPolicyRules")
        if not re.search(kept.format(word), text, re.MULTILINE | re.IGNORECASE)
    ]
    if not open_:
        return ruled_out("it leaves foreign routes and rules alone")
    return likely(f"systemd-networkd runs, and ManageForeign{open_[0]} is not off")


def _behind_tcx(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    both = [one for one in machine.devices() if one.filters and machine.chain(one.index)]
    if not both:
        return ruled_out("no device has both")
    first = both[0]
    order = f"{', '.join(machine.chain(first.index))}, then {', '.join(first.filters)}"
    return confirmed(f"on {first.name}: {order}", device=first.name)


def _leftovers(failure: Failure, machine: Machine) -> Evidence:
    chains = [name for name in machine.chains() if _CHAINS.match(name)]
    chains += re.findall(_CHAINS, failure.text)
    devices = [one.name for one in machine.devices() if _DEVICES.match(one.name)]
    if not chains and not devices:
        return ruled_out("there is no chain and no device of another network plugin")
    if chains:
        return confirmed(f"chain {_some(chains)}", chain=chains[0])
    return likely(f"device {_some(devices)}", device=devices[0])


def _port_taken(failure: Failure, machine: Machine) -> Evidence:
    others = [one for one in machine.devices() if one.kind == "vxlan" and one.port]
    ports = {one.port or _VXLAN_PORT for one in others}
    wanted = ports or {_VXLAN_PORT}
    bound = {port for port in wanted if _is_bound(machine, port)}
    if others and bound:
        shared = next(one for one in others if one.port in bound)
        return confirmed(f"{shared.name} has UDP port {shared.port}", port=shared.port)
    if bound:
        return confirmed(f"a socket has UDP port {_VXLAN_PORT}", port=_VXLAN_PORT)
    if failure.operation.startswith("check"):
        return ruled_out("no VXLAN port is taken")
    return likely("who has the port was not found", port=_VXLAN_PORT)


def _is_bound(machine: Machine, port: int) -> bool:
    tables = (machine.text(f"/proc/thread-self/net/{name}") or "" for name in ("udp", "udp6"))
    return any(re.search(rf"^\s*\d+: \w+:{port:04X} ", table, re.MULTILINE) for table in tables)


def _first_wins(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    found = [name for name in machine.names(_NET_D) if name.endswith(_CONFIGURATIONS)]
    ours = [name for name in found if "pycilium" in name]
    if not ours:
        return ruled_out(f"pycilium is not in {_NET_D}")
    if found[0] == ours[0]:
        return ruled_out(f"{ours[0]} comes first")
    return confirmed(f"{found[0]} comes before {ours[0]}", first=found[0], ours=ours[0])


def _lost(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    told = re.search(r"(?:lost_events\D*|EVENTS LOST\D*)(\d+)|(\d+) lost", failure.text)
    count = int(told[1] or told[2]) if told else max(failure.used, 0)
    if told is None and failure.used < 0:
        return likely("the losses were not read")
    return confirmed(f"{count} were lost") if count else ruled_out("none were lost")


def _wrong_bcc(failure: Failure, machine: Machine) -> Evidence:  # noqa: ARG001 - a probe
    if machine.has_distribution("bcc"):
        return confirmed("the distribution bcc of the package index is installed")
    return confirmed("no module of that name is installed")


RULES = (
    Rule(
        code="PYC-R1",
        title="Packets are dropped by the reverse path filter",
        operations=("check rp_filter",),
        probe=_rp_filter,
        cause="a strict reverse path filter drops what comes in by another way than the answer "
        "goes",
        fix="sysctl -w net.ipv4.conf.{device}.rp_filter=0, and a file in /etc/sysctl.d that comes "
        "after 50-default.conf",
        more="Endpoints reach each other and nothing outside, and no program has dropped anything. "
        "The larger of the values of 'all' and of the device counts; systemd sets it at start.",
    ),
    Rule(
        code="PYC-R2",
        title="systemd-networkd takes foreign routes away",
        operations=("check networkd",),
        probe=_networkd,
        cause="systemd-networkd removes routes and rules that it did not make, when it restarts or "
        "a link flaps",
        fix="[Network] ManageForeignRoutes=no and ManageForeignRoutingPolicyRules=no in "
        "/etc/systemd/networkd.conf.d/pycilium.conf",
        more="The network dies after netplan apply.",
    ),
    Rule(
        code="PYC-R3",
        title="A tc filter never sees a packet",
        operations=("check order",),
        probe=_behind_tcx,
        cause="TCX programs run before tc filters, and may decide without them",
        fix="attach the filter's program to TCX, with its place: before= or after=",
        more="pycilium doctor --only devices shows the order in which programs run.",
    ),
    Rule(
        code="PYC-R4",
        title="Another network plugin has left rules behind",
        operations=("check leftovers",),
        said=r"FLANNEL-POSTRTG",
        probe=_leftovers,
        cause="rules or devices of another network plugin are still there; its SNAT hides who "
        "sends",
        fix="remove them if that plugin is gone: iptables-save | grep -v {chain} | "
        "iptables-restore, "
        "or ip link delete",
        more="Policies then drop what comes from other nodes, because the source's identity is "
        "lost.",
    ),
    Rule(
        code="PYC-R5",
        title="The VXLAN port is taken",
        operations=("create*", "set up link"),
        errnos=(errno.EADDRINUSE,),
        said=r"address already in use|Address already in use",
        probe=_port_taken,
        cause="the UDP port of the VXLAN device is taken by another one",
        fix="another port than {port}, or remove the other device",
        more="Flannel and Cilium both take 8472.",
    ),
    Rule(
        code="PYC-R6",
        title="The runtime uses another network plugin",
        operations=("check cni",),
        said=r"cni plugin not initialized",
        probe=_first_wins,
        cause="the container runtime takes the first file by name, and that is not ours",
        fix="mv /etc/cni/net.d/{first} /etc/cni/net.d/{first}.disabled, and restart containerd if "
        "the directory was made anew",
        more="containerd watches the directory itself: one that was deleted and made again is no "
        "longer seen.",
    ),
    Rule(
        code="PYC-R7",
        title="Flows are missing",
        operations=("read flows", "check flows"),
        said=r"lost_events|EVENTS LOST",
        probe=_lost,
        cause="events were lost: the reader was slower than the ring",
        fix='a larger ring, sizes={{"pcl_events": 1 << 24}}, or fewer events: events="drops"',
        more="Losses are counted exactly, and shown in the stream where they happened.",
    ),
    Rule(
        code="PYC-R8",
        title="The Python module bcc",
        operations=("import",),
        said=r"No module named 'bcc'|module 'bcc' has no attribute 'BPF'",
        probe=_wrong_bcc,
        cause="bcc of the Python package index is another project",
        fix="the distribution's python3-bpfcc; pycilium itself needs none",
        more="The BPF Compiler Collection is not on the package index.",
    ),
)
