# SPDX-License-Identifier: Apache-2.0
"""Outcomes of cases as a JUnit report."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from pycilium.policy.cases import Outcome


def junit(outcomes: Iterable[Outcome]) -> str:
    """One test suite."""
    known = list(outcomes)
    failed = sum(not one.passed for one in known)
    suite = ET.Element(
        "testsuite", name="pycilium policy", tests=str(len(known)), failures=str(failed)
    )
    for one in known:
        case = one.case
        pair = f"{case.source} → {case.destination}:{case.port}"
        element = ET.SubElement(suite, "testcase", classname=pair, name=case.name)
        if not one.passed:
            ET.SubElement(element, "failure", message=str(one.verdict)).text = str(one)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
