# SPDX-License-Identifier: Apache-2.0
"""What a datapath knows of one endpoint, as a value."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import attrs

from pycilium.model.identity import Identity


@attrs.frozen
class Endpoint:
    """An attachment of this node: a number, a name, addresses, an identity."""

    id: int
    name: str
    addresses: tuple[IPv4Address | IPv6Address, ...]
    identity: Identity
    ifindex: int
    mac: str
    host_mac: str
