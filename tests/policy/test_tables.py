# SPDX-License-Identifier: Apache-2.0
"""What the documents say of policies is what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy import tables
from pycilium.model import Entity
from pycilium.policy import parse
from pycilium.policy.kinds import calico, cilium

KINDS = Path(__file__).parents[2] / "docs" / "reference-policy-kinds.md"


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_a_table_is_as_the_evaluator_has_it(name: str) -> None:
    """Otherwise: python tests/policy/tables.py, and look at what changed."""
    assert tables.markdown(name) in tables.PAGE.read_text()


def test_every_place_of_a_table_is_filled() -> None:
    page = tables.PAGE.read_text()
    assert tables.rewritten(page) == page
    assert page.count("<!-- table: ") == len(tables.TABLES)


def test_every_kind_and_field_that_is_read_or_refused_is_listed() -> None:
    page = KINDS.read_text()
    words = {
        *(name for _, name in parse._KINDS),
        *parse.CONTEXT_KINDS,
        *cilium._SPEC,
        *(key for keys in cilium._PEERS.values() for key in keys),
        *cilium._REFUSED,
        *calico._SPEC,
        *calico._REFUSED,
        *calico._REFUSED_RULE,
        *calico._REFUSED_ENTITY,
        *(entity.value for entity in Entity),
    }
    missing = sorted(word for word in words if f"`{word}`" not in page)
    assert not missing
