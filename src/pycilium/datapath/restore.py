# SPDX-License-Identifier: Apache-2.0
"""The manifest's content, and a datapath rebuilt from it and from what stands in the kernel.

Written before what it describes becomes visible, the manifest may be ahead of the kernel and
never behind: an endpoint in it without entries, or whose device has gone, is proved stale.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pycilium.datapath import device as devices
from pycilium.datapath import serial
from pycilium.datapath.device import Device
from pycilium.datapath.endpoint import Endpoint
from pycilium.datapath.hooks import Attachments
from pycilium.datapath.wire import address_key, mac_text, parse_address
from pycilium.errors import SpecError
from pycilium.model.identity import RESERVED
from pycilium.net import NetNS, links

if TYPE_CHECKING:
    from pycilium.datapath.core import Core
    from pycilium.datapath.datapath import Datapath
    from pycilium.model import Identity, Labels


def manifest_of(datapath: Datapath, core: Core) -> dict[str, Any]:
    """Everything that the other maps do not tell."""
    known = datapath.identities.known()
    services = datapath.services.manifest()
    return {
        "config": core.config.to_dict(),
        "sizes": core.sizes,
        "identities": {
            str(number): serial.dump(labels)
            for number, labels in known.items()
            if number not in RESERVED
        },
        "next_identities": list(datapath.identities.next_numbers),
        "endpoints": [endpoint.to_dict() for endpoint in datapath.endpoints],
        "services": serial.dump(services),
        **datapath.policies.manifest(),
    }


def restore(datapath: Datapath, core: Core, content: dict[str, Any]) -> None:
    """Rebuild the object graph, then converge: only what differs is written."""
    labels = {int(number): serial.load(one) for number, one in content["identities"].items()}
    datapath.identities.next_numbers = tuple(content["next_identities"])
    held = [datapath.identities.acquire(one, number=number) for number, one in labels.items()]
    for number, rule in content["rules"]:
        datapath._rules.restore(number, serial.load(rule))  # noqa: SLF001 - one subject
    datapath.identities.adopt()
    datapath.identities.read_node()
    datapath.policies.expect(serial.load(content["policies"]))
    for row in content["endpoints"]:
        _restore_endpoint(datapath, core, row, labels)
    datapath.policies.adopt()
    datapath.identities.write_node()
    for identity in held:
        datapath.identities.release(identity)
    datapath.policies.refresh()
    datapath.devices.adopt()
    datapath.sockets.settle(datapath.endpoints)
    datapath.services.adopt(serial.load(content["services"]))
    datapath.sockets.services_settled()
    core.save()


def _restore_endpoint(
    datapath: Datapath, core: Core, row: dict[str, Any], labels: dict[int, Labels]
) -> None:
    value: Any = core.maps["pcl_endpoints"].get(row["ifindex"])
    device = _living_device(core, row, value)
    if device is None:
        _clear_away(core, row)
        return
    identity = datapath.identities.acquire(labels[row["identity"]])
    slot = datapath.policies.sets.add(identity.number, number=row["slot"])
    if slot.pairs is None:
        datapath.policies.sets.adopt(identity.number)
    endpoint = _endpoint(datapath, core, row, identity, device)
    datapath.endpoints.register(endpoint)
    datapath.identities.settle(endpoint.addresses, identity.labels)
    standing = {4: value.ipv4_identity, 6: value.ipv6_identity}
    for address in endpoint.addresses:
        datapath.identities.note_published(address, standing[address.version])
    if value.policy_slot != slot.number:
        datapath.endpoints.publish(endpoint)


def _endpoint(
    datapath: Datapath, core: Core, row: dict[str, Any], identity: Identity, device: Device
) -> Endpoint:
    pins = core.link_pins(row["id"])
    return Endpoint(
        datapath.endpoints,
        number=row["id"],
        name=row["name"],
        addresses=tuple(parse_address("address", one) for one in row["addresses"]),
        identity=identity,
        slot=row["slot"],
        device=device,
        attachments=Attachments.adopt(
            core.config.hooks, core.node, core.object, device.ifindex, pins
        ),
        netns=_namespace(row),
        ifname=row["ifname"],
        created=row["created"],
        owns_netns=row["netns"] is not None,
        netns_cookie=row.get("netns_cookie", 0),
    )


def _living_device(core: Core, row: dict[str, Any], value: Any) -> Device | None:
    """The device, if the kernel has entries for it and it came up: else it never was ready."""
    info = devices.lookup(core.node, row["ifindex"])
    if value is None or info is None or not info.up:
        return None
    if info.mac != mac_text(value.host_mac):  # another interface has the number now
        return None
    redirect = bool(value.peer_redirect)
    return Device(info.index, info.name, mac_text(value.mac), info.mac, redirect)


def _clear_away(core: Core, row: dict[str, Any]) -> None:
    """What a creation or removal left that was cut off."""
    addresses = [parse_address("address", one) for one in row["addresses"]]
    core.maps["pcl_addresses"].remove(map(address_key, addresses))
    core.maps["pcl_endpoints"].remove([row["ifindex"]])
    core.bump(row["slot"])
    for path in core.link_pins(row["id"]).values():
        path.unlink(missing_ok=True)
    name = f"pcl{row['id']}"
    if row["created"] and links.exists(name, ns=core.node):
        links.delete(links.get(name, ns=core.node).index, ns=core.node)
    if row["netns"] is not None:
        NetNS.delete(row["netns"])


def _namespace(row: dict[str, Any]) -> NetNS | None:
    if row["netns"] is None:
        return None
    with suppress(SpecError):
        return NetNS.open(row["netns"])
    return None
