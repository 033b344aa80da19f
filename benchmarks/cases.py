# SPDX-License-Identifier: Apache-2.0
"""The packets whose cost is measured, what must become of each, and what it may cost."""

from __future__ import annotations

import attrs

from benchmarks import scene
from benchmarks.frames import ACK, SYN, Tuple
from benchmarks.report import Goal, at_most
from benchmarks.wrapper import Renumber

REDIRECT = 7  # TC_ACT_REDIRECT
NEXT = 0xFFFFFFFF  # TC_ACT_UNSPEC: other programs and the host's stack have their turn
SHOT = 2  # TC_ACT_SHOT


@attrs.frozen
class Connection:
    """What the client sends, and what a local server answers."""

    flow: Tuple
    reply: Tuple | None = None


@attrs.frozen
class Case:
    """One row of the report; without a connection it is a connection's first packet."""

    name: str
    flow: Tuple
    verdict: int = REDIRECT
    goal: Goal | None = None
    connection: Connection | None = None
    renumber: Renumber | None = None

    @property
    def flags(self) -> int:
        return ACK if self.connection else SYN


def _to_pod(client: str, server: str) -> Connection:
    flow = Tuple(client, server, 40000, scene.PORT)
    return Connection(flow, flow.reply)


def _to_world(client: str, world: str) -> Connection:
    return Connection(Tuple(client, world, 40001, 443))


def _to_service(client: str, frontend: str, server: str) -> Connection:
    flow = Tuple(client, frontend, 40002, 80)
    return Connection(flow, Tuple(server, client, scene.PORT, 40002))


POD = _to_pod(scene.CLIENT, scene.SERVER)
WORLD = _to_world(scene.CLIENT, scene.WORLD)
SERVICE = _to_service(scene.CLIENT, scene.frontend(1), scene.SERVER)
POD6 = _to_pod(scene.CLIENT6, scene.SERVER6)
WORLD6 = _to_world(scene.CLIENT6, scene.WORLD6)
SERVICE6 = _to_service(scene.CLIENT6, scene.frontend6(1), scene.SERVER6)

# The source port, and then the destination port or the last bits of the frontend's address.
_PORTS, _FRONTENDS = Renumber(34, 36, 0xFF), Renumber(34, 32, scene.FRONTENDS - 1)
_PORTS6, _FRONTENDS6 = Renumber(54, 56, 0xFF), Renumber(54, 52, scene.FRONTENDS - 1)


def _forth(
    name: str, connection: Connection, *, verdict: int = REDIRECT, goal: Goal | None = None
) -> Case:
    return Case(f"{name}, established", connection.flow, verdict, goal, connection)


def _back(name: str, connection: Connection) -> Case:
    assert connection.reply
    return Case(f"{name}, reply", connection.reply, connection=connection)


def _new(name: str, flow: Tuple, renumber: Renumber, *, goal: Goal | None = None) -> Case:
    return Case(f"{name}, new connection", flow, goal=goal, renumber=renumber)


def _new_pod(client: str, server: str) -> Tuple:
    return Tuple(client, server, 0, 1024)


def _new_service(client: str, frontend: str) -> Tuple:
    return Tuple(client, frontend, 0, 80)


CASES = (
    _forth("pod → pod", POD, goal=at_most(2.6)),
    _back("pod → pod", POD),
    _forth("pod → other node", WORLD, verdict=NEXT, goal=at_most(2.8)),
    _forth("pod → ClusterIP", SERVICE, goal=at_most(3.0)),
    _back("pod → ClusterIP", SERVICE),
    _new("pod → pod", _new_pod(scene.CLIENT, scene.SERVER), _PORTS, goal=at_most(13)),
    _new(
        "pod → ClusterIP",
        _new_service(scene.CLIENT, scene.frontend(0)),
        _FRONTENDS,
        goal=at_most(18),
    ),
    Case("pod → pod, denied", Tuple(scene.STRANGER, scene.SERVER, 40003, scene.PORT), SHOT),
    _forth("IPv6 pod → pod", POD6),
    _back("IPv6 pod → pod", POD6),
    _forth("IPv6 pod → other node", WORLD6, verdict=NEXT),
    _forth("IPv6 pod → ClusterIP", SERVICE6),
    _back("IPv6 pod → ClusterIP", SERVICE6),
    _new("IPv6 pod → pod", _new_pod(scene.CLIENT6, scene.SERVER6), _PORTS6),
    _new("IPv6 pod → ClusterIP", _new_service(scene.CLIENT6, scene.frontend6(0)), _FRONTENDS6),
)
