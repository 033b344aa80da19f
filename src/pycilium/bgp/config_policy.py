# SPDX-License-Identifier: Apache-2.0
"""Policies as documents: rules with what they match, set and do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pycilium.bgp.family import Family
from pycilium.bgp.fields import located, number, texts
from pycilium.bgp.policy import Action, Change, Match, Rule, RulePolicy
from pycilium.documents import Node

_ACTIONS = {one.value: one for one in Action}
_FAMILIES = {str(one): one for one in Family}


def read_policy(node: Node, name: str) -> RulePolicy:
    """default: accept or reject; rules: each with match, set, action."""
    fields = node.mapping("default", "rules")
    default = Action.REJECT
    if "default" in fields:
        default = _ACTIONS[fields["default"].one_of(["accept", "reject"])]
    rules = [_rule(one) for one in fields["rules"].items()] if "rules" in fields else []
    return RulePolicy(rules, default, name)


def _rule(node: Node) -> Rule:
    fields = node.mapping("name", "match", "set", "action")
    match, change = fields.get("match"), fields.get("set")
    action = _ACTIONS[fields["action"].one_of(list(_ACTIONS))] if "action" in fields else None
    return Rule(
        Match() if match is None else _build(match, Match, _MATCH),
        Change() if change is None else _build(change, Change, _CHANGE),
        action or Action.ACCEPT,
        fields["name"].text() if "name" in fields else f"the rule at {node.origin}",
    )


Readers = dict[str, tuple[str, Callable[[Node], Any]]]


def _build(node: Node, kind: Callable[..., Any], readers: Readers) -> Any:
    found = {readers[key][0]: readers[key][1](one) for key, one in node.mapping(*readers).items()}
    return located(node, lambda: kind(**found))


def _family(node: Node) -> Family:
    return _FAMILIES[node.one_of(list(_FAMILIES))]


def _numbers(node: Node) -> list[int]:
    return [number(one) for one in node.items()]


_MATCH: Readers = {
    "prefixes": ("prefixes", texts),
    "communities": ("communities", texts),
    "nextHops": ("next_hops", texts),
    "family": ("family", _family),
    "asPathContains": ("as_path_contains", number),
    "asPathFirst": ("as_path_first", number),
    "asPathOrigin": ("as_path_origin", number),
    "asPathMax": ("as_path_max", number),
}
_CHANGE: Readers = {
    "med": ("med", number),
    "localPref": ("local_pref", number),
    "nextHop": ("next_hop", Node.text),
    "addCommunities": ("add", texts),
    "removeCommunities": ("remove", texts),
    "removeAllCommunities": ("remove_all", Node.flag),
    "prepend": ("prepend", _numbers),
}
