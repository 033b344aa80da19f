# SPDX-License-Identifier: Apache-2.0
"""A backend of the balancer: takes packets out of their tunnel, as an ipip device would.

A raw socket for the tunnel's protocol and a TUN device: kernels without ipip have these.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import threading
from ctypes import addressof, create_string_buffer

from pycilium.net import NetNS, links, sysctl

_TUNSETIFF, _TUN, _NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCETHTOOL, _GRO, _CHECKSUMS = 0x8946, 0x2C, 0x17


class Decapsulator:
    """Runs until close(); `taken` counts packets that came out of tunnels."""

    def __init__(self, ns: NetNS) -> None:
        self.taken = 0
        self._tun = ns.run(_open_tun, b"tun0")
        links.set_up(links.get("tun0", ns=ns).index, ns=ns)
        sysctl.write("net/ipv4/conf/tun0/rp_filter", 0, ns=ns)
        self._outer4 = ns.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP)
        self._outer6 = ns.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_IPV6)
        for one in (self._outer4, self._outer6):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._outer4, self._outer6, self._wake], [], [])
            if self._wake in ready:
                return
            for one in ready:
                data = one.recv(65536)
                self.taken += 1
                os.write(self._tun, data[20:] if one is self._outer4 else data)

    def close(self) -> None:
        os.write(self._stop, b"x")
        self._thread.join(5)
        for fd in (self._tun, self._wake, self._stop):
            os.close(fd)
        self._outer4.close()
        self._outer6.close()


def _open_tun(name: bytes) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name, _TUN | _NO_PI))
    return fd


def offload(ns: NetNS, device: str, *, gro: bool, checksums: bool) -> None:
    """What native XDP on veth needs: GRO where frames arrive, whole checksums where they start."""
    with ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for command, value in ((_GRO, gro), (_CHECKSUMS, checksums)):
            setting = create_string_buffer(struct.pack("=II", command, int(value)), 8)
            request = struct.pack("16sP16x", device.encode(), addressof(setting))
            fcntl.ioctl(one, _SIOCETHTOOL, request)
