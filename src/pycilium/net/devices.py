# SPDX-License-Identifier: Apache-2.0
"""What a device is besides a link: its driver, its XDP, its offloads, its filters."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from typing import Any

import attrs

from pycilium.errors import KernelError
from pycilium.net import _netlink
from pycilium.net.netns import NetNS

_SIOCETHTOOL = 0x8946
_DRIVER_INFO = 0x03
# ETHTOOL_G*: one number each (linux/ethtool.h, stable ABI).
_OFFLOADS = {"tx-checksum": 0x16, "rx-checksum": 0x14, "tso": 0x1E, "gso": 0x23, "gro": 0x2B}
_FLAGS, _LRO = 0x25, 1 << 15
# enum netdev_xdp_act (linux/netdev.h).
_XDP_FEATURES = ("basic", "redirect", "ndo_xmit", "xsk_zerocopy", "hw_offload", "rx_sg",
                 "ndo_xmit_sg")  # fmt: skip
_XDP_MODES = {1: "native", 2: "generic", 3: "offload", 4: "several"}
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3


@attrs.frozen(kw_only=True)
class Device:
    """A device at one moment.

    xdp_mode: "native", "generic", "offload", "several" or "" without a program; xdp_features: what
    its driver can (Linux 6.3), None where the kernel does not say; filters: clsact programs by
    name; port: UDP, of a VXLAN device.
    """

    index: int
    name: str
    mtu: int
    kind: str = ""
    driver: str = ""
    xdp_mode: str = ""
    xdp_program: int = 0
    xdp_features: tuple[str, ...] | None = None
    offloads: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    port: int = 0


def read(index: int, *, ns: NetNS | None = None) -> Device | None:
    """One device by its index; None where there is none."""
    try:
        (found,) = _read(ns, "get", index=index)
    except KernelError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return found


def read_all(*, ns: NetNS | None = None) -> list[Device]:
    """Every device of a namespace."""
    return _read(ns, "dump")


def _read(ns: NetNS | None, command: str, **which: int) -> list[Device]:
    def body(route: Any) -> list[Device]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            features = _xdp_features()
            return [
                _device(message, control, route, features)
                for message in _netlink.call(route, "link", command, "read devices", "", **which)
            ]

    return _netlink.inside(ns, body)


def _device(
    message: Any, control: socket.socket, route: Any, features: dict[int, tuple[str, ...]]
) -> Device:
    found = _netlink.attributes(message)
    info = _netlink.attributes(found["IFLA_LINKINFO"]) if "IFLA_LINKINFO" in found else {}
    xdp = _netlink.attributes(found["IFLA_XDP"]) if "IFLA_XDP" in found else {}
    name = found["IFLA_IFNAME"]
    return Device(
        index=message["index"],
        name=name,
        mtu=found["IFLA_MTU"],
        kind=info.get("IFLA_INFO_KIND", ""),
        driver=_driver(control, name),
        xdp_mode=_xdp_mode(xdp.get("IFLA_XDP_ATTACHED")),
        xdp_program=xdp.get("IFLA_XDP_PROG_ID") or 0,
        xdp_features=features.get(message["index"]),
        offloads=_offloads(control, name),
        filters=_filters(route, message["index"]),
        port=_vxlan_port(info),
    )


def _xdp_mode(value: Any) -> str:
    """pyroute2 gives the number or its own word for it."""
    words = {"xdp": 1, "xdpgeneric": 2, "xdpoffload": 3, "xdpmulti": 4}
    return _XDP_MODES.get(words.get(value, value) or 0, "")


def _driver(control: socket.socket, name: str) -> str:
    answer = _ethtool(control, name, struct.pack("=I192x", _DRIVER_INFO))
    return answer[4:36].split(b"\0")[0].decode() if answer else ""


def _offloads(control: socket.socket, name: str) -> tuple[str, ...]:
    on = [label for label, command in _OFFLOADS.items() if _number(control, name, command)]
    if _number(control, name, _FLAGS) & _LRO:
        on.append("lro")
    return tuple(on)


def _number(control: socket.socket, name: str, command: int) -> int:
    answer = _ethtool(control, name, struct.pack("=II", command, 0))
    return int(struct.unpack_from("=I", answer, 4)[0]) if answer else 0


def _ethtool(control: socket.socket, name: str, request: bytes) -> bytes:
    """The answer, or nothing where the driver has none."""
    import ctypes

    buffer = ctypes.create_string_buffer(request, len(request))
    asked = struct.pack("=16sQ16x", name.encode(), ctypes.addressof(buffer))
    try:
        fcntl.ioctl(control.fileno(), _SIOCETHTOOL, asked)
    except OSError:
        return b""
    return buffer.raw


def _filters(route: Any, index: int) -> tuple[str, ...]:
    """clsact programs, in the order in which they run, after TCX."""
    from pyroute2.netlink.exceptions import NetlinkError

    found = []
    for parent in (_INGRESS, _EGRESS):
        try:
            messages = list(route.get_filters(index=index, parent=parent))
        except NetlinkError:
            continue
        for one in messages:
            kept = _netlink.attributes(one)
            options = kept.get("TCA_OPTIONS")
            if kept.get("TCA_KIND") == "bpf" and options is not None:
                name = _netlink.attributes(options).get("TCA_BPF_NAME")
                if name:
                    found.append(str(name))
    return tuple(dict.fromkeys(found))


def _vxlan_port(info: dict[str, Any]) -> int:
    if info.get("IFLA_INFO_KIND") != "vxlan":
        return 0
    return int(_netlink.attributes(info["IFLA_INFO_DATA"]).get("IFLA_VXLAN_PORT") or 0)


def _xdp_features() -> dict[int, tuple[str, ...]]:
    """By ifindex, from the netdev family (Linux 6.3); nothing where the kernel lacks it."""
    from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, genlmsg
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic import GenericNetlinkSocket

    class Message(genlmsg):  # type: ignore[misc]
        nla_map = (
            ("NETDEV_A_DEV_UNSPEC", "none"),
            ("NETDEV_A_DEV_IFINDEX", "uint32"),
            ("NETDEV_A_DEV_PAD", "hex"),
            ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
        )

    request = Message()
    request["cmd"], request["version"] = 1, 1
    with GenericNetlinkSocket() as family:
        try:
            family.bind("netdev", Message)
            flags = NLM_F_REQUEST | NLM_F_DUMP
            answers = list(family.nlm_request(request, msg_type=family.prid, msg_flags=flags))
        except (NetlinkError, KeyError):
            return {}
    return dict(map(_features, answers))


def _features(message: Any) -> tuple[int, tuple[str, ...]]:
    found = _netlink.attributes(message)
    value = int(found.get("NETDEV_A_DEV_XDP_FEATURES") or 0)
    names = tuple(name for bit, name in enumerate(_XDP_FEATURES) if value >> bit & 1)
    return int(found["NETDEV_A_DEV_IFINDEX"]), names
