# SPDX-License-Identifier: Apache-2.0
"""ExaBGP's message classes as an oracle: a line with an UPDATE's body in, what it read out.

A process of its own, because the package sets up logging and an environment when it is imported.
"""

from __future__ import annotations

import json
import sys


def negotiated():
    from exabgp.bgp.message.open.asn import ASN
    from exabgp.bgp.message.open.routerid import RouterID
    from exabgp.bgp.neighbor import Neighbor
    from exabgp.configuration.check import _negotiated
    from exabgp.protocol.family import AFI, SAFI
    from exabgp.protocol.ip import IPv4

    neighbor = Neighbor()
    neighbor["local-as"], neighbor["peer-as"] = ASN(64512), ASN(64513)
    neighbor["router-id"] = RouterID("10.0.0.1")
    neighbor["local-address"] = neighbor["peer-address"] = IPv4.create("10.0.0.1")
    for afi in (AFI.ipv4, AFI.ipv6):
        neighbor.add_family((afi, SAFI.unicast))
    return _negotiated(neighbor)


def read(body: bytes, session) -> dict[str, object]:
    from exabgp.bgp.message.direction import Direction
    from exabgp.bgp.message.update import Update

    found = Update.unpack_message(body, Direction.IN, session)
    return {
        "prefixes": sorted(one.cidr.prefix() for one in found.nlris),
        "attributes": json.loads("{" + found.attributes.json() + "}") if found.attributes else {},
    }


def main() -> None:
    from exabgp.environment import getenv
    from exabgp.logger import log

    log.init(getenv())
    session = negotiated()
    for line in sys.stdin:
        try:
            answer = read(bytes.fromhex(line), session)
        except Exception as error:  # noqa: BLE001 - an oracle says whatever happened
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
