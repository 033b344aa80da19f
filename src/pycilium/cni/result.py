# SPDX-License-Identifier: Apache-2.0
"""What ADD answers, in every version of it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any

import attrs

from pycilium.cni.errors import CniError, Code
from pycilium.cni.versions import number


@attrs.frozen
class Interface:
    """An interface; `sandbox` is the path of its namespace, empty on the host."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int | None = None


@attrs.frozen
class Ip:
    """An address with its prefix length; `interface` is a position in the result's interfaces."""

    address: str
    gateway: str | None = None
    interface: int | None = None


@attrs.frozen
class Route:
    """A route; without a gateway it goes to the interface's own."""

    dst: str
    gw: str | None = None


@attrs.frozen
class Result:
    """What an ADD made."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Ip, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Mapping[str, Any] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, content: object) -> Result:
        """From a prevResult of any version since 0.3.0. Raises CniError."""
        try:
            return cls._parse(content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CniError(
                Code.INVALID_CONFIG, "prevResult is no CNI result", repr(error)
            ) from None

    @classmethod
    def _parse(cls, content: Any) -> Result:
        return cls(
            interfaces=tuple(
                Interface(
                    one["name"], one.get("mac") or "", one.get("sandbox") or "", one.get("mtu")
                )
                for one in content.get("interfaces") or ()
            ),
            ips=tuple(
                Ip(str(ip_interface(one["address"])), one.get("gateway"), one.get("interface"))
                for one in content.get("ips") or ()
            ),
            routes=tuple(Route(one["dst"], one.get("gw")) for one in content.get("routes") or ()),
            dns=dict(content.get("dns") or {}),
        )

    def to_dict(self, version: str) -> dict[str, Any]:
        """As the specification's version has it."""
        return {
            "cniVersion": version,
            "interfaces": [_interface(one, version) for one in self.interfaces],
            "ips": [_ip(one, version) for one in self.ips],
            "routes": [_present(dst=one.dst, gw=one.gw) for one in self.routes],
            "dns": dict(self.dns),
        }


def _interface(one: Interface, version: str) -> dict[str, Any]:
    mtu = one.mtu if number(version) >= number("1.1.0") else None
    return _present(name=one.name, mac=one.mac or None, sandbox=one.sandbox or None, mtu=mtu)


def _ip(one: Ip, version: str) -> dict[str, Any]:
    """Before 1.0.0 the family stood beside the address."""
    family = str(ip_interface(one.address).version) if number(version) < (1, 0, 0) else None
    return _present(
        version=family, address=one.address, gateway=one.gateway, interface=one.interface
    )


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
