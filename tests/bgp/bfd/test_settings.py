# SPDX-License-Identifier: Apache-2.0
"""What a session may be asked to be."""

from __future__ import annotations

from typing import Any

import pytest

from pycilium import SpecError
from pycilium.bgp.bfd import Settings, Timers


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"peer": "10.0.0.300"}, "peer", "an address as in"),
        ({"peer": None}, "peer", "an address as in"),
        ({"peer": 167772161}, "peer", "an address as in"),
        ({"peer": "224.0.0.1"}, "peer", "unicast"),
        ({"peer": "0.0.0.0"}, "peer", "unicast"),
        ({"peer": "10.0.0.1", "local": "fd00::1"}, "local", "an IPv4 address"),
        ({"peer": "fd00::2", "local": "10.0.0.1"}, "local", "an IPv6 address"),
        ({"peer": "10.0.0.1", "local": "10.0.0.1"}, "local", "another address"),
        ({"peer": "fe80::1"}, "interface", "of a link-local peer"),
        ({"peer": "fe80::1%a", "interface": "b"}, "interface", "a, the scope"),
        ({"peer": "fe80::1%a", "multihop": True}, "multihop", "link-local"),
        ({"peer": "10.0.0.1", "interface": "x" * 16}, "interface", "1 to 15 bytes"),
        ({"peer": "10.0.0.1", "multihop": 1}, "multihop", "True or False"),
        ({"peer": "10.0.0.1", "passive": "no"}, "passive", "True or False"),
        ({"peer": "10.0.0.1", "authentication": "s"}, "authentication", "Authentication"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as refused:
        Settings(**settings)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("timers", "field"),
    [
        ({"interval": 0.009}, "interval"),
        ({"interval": 4295}, "interval"),
        ({"interval": float("nan")}, "interval"),
        ({"interval": "1"}, "interval"),
        ({"interval": True}, "interval"),
        ({"receive_interval": 0}, "receive_interval"),
        ({"multiplier": 0}, "multiplier"),
        ({"multiplier": 256}, "multiplier"),
        ({"multiplier": 3.0}, "multiplier"),
    ],
)
def test_which_timers_are_refused(timers: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as refused:
        Timers(**timers)
    assert refused.value.field == field


def test_a_misspelt_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="intervall"):
        Timers(intervall=1)  # type: ignore[call-arg]


def test_seconds_become_microseconds() -> None:
    assert Timers(interval=0.1).desired_min_tx == Timers(interval=0.1).required_min_rx == 100_000
    assert Timers(interval=0.1, receive_interval=0.05).required_min_rx == 50_000


def test_a_link_local_peer_names_its_interface() -> None:
    assert Settings(peer="fe80::1%eth0").device == "eth0"
    assert Settings(peer="fe80::1", interface="eth0").device == "eth0"
