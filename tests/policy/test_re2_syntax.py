# SPDX-License-Identifier: Apache-2.0
"""The checker of RE2's syntax against RE2 itself."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from pycilium.policy.kinds.re2_syntax import re2_problem

PARTS = [
    *"ab|()[]{}^$.*+?-,:\\\\019_ ", "(?:", "(?P<n>", "(?<m>", "(?i)", "(?-s:", "(?=", "(?!", "(?<=",
    "(?>", "(?#", "(?P=n)", "(?1)", "(?a)", "[a-z]", "[^]", "[[:alpha:]]", "[[:no:]]", "[z-a]",
    "[\\d-z]", "\\d", "\\b", "\\B", "\\z", "\\Z", "\\A", "\\pL", "\\p{Greek}", "\\1", "\\12",
    "\\x41", "\\x{41}", "\\x", "\\u0041", "\\Q+\\E", "\\C", "\\K", "\\R", "\\/", "\\_", "\\-",
    "{2}", "{2,}", "{2,3}", "{3,2}", "{1000}", "{1001}", "{,3}", "*?", "*+", "??", "\xe9",
]  # fmt: skip


def agrees(text: str) -> bool:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 30
    try:
        re2.compile(text, options=options)
    except re2.error:
        return bool(re2_problem(text))
    return not re2_problem(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "GET|POST", "/api/v[0-9]+/.*", "(?i)shop", "a(?i)b", "\\p{Greek}+", "[[:alpha:]]+",
        "(?=a)", "(a)\\1", "a**", "a{1001}", "(a{100}){100}", "*a", "a{2}{3}", "(", ")", "[a", "\\",
        "[b-a]", "a{,3}", "{", "x{2,1}", "a|*", "(|a)*", "\\8", "[]a]", "[^]a]",
    ],
)  # fmt: skip
def test_known(text: str) -> None:
    assert agrees(text), (text, re2_problem(text))


@settings(max_examples=3000, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
def test_random(text: str) -> None:
    assert agrees(text), (text, re2_problem(text))
