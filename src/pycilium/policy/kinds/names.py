# SPDX-License-Identifier: Apache-2.0
"""DNS names and patterns, and the regular expressions of L7 rules."""

from __future__ import annotations

import re

from pycilium.documents import Node
from pycilium.policy.kinds.re2_syntax import re2_problem

MAX_REGEX = 1024
MAX_NAME = 255  # RFC 1035 section 2.3.4
_NAME = re.compile(r"[-a-zA-Z0-9_.]+")
_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]+")


def domain_name(node: Node) -> str:
    """A name without wildcards, in lower case and without the last dot."""
    text = node.text()
    if not _NAME.fullmatch(text) or len(text) > MAX_NAME:
        raise node.error(f"a DNS name of at most {MAX_NAME} characters, without *")
    return normal(text)


def domain_pattern(node: Node) -> str:
    """A name in which * stands for characters of one label; "*" alone is every name."""
    text = node.text()
    if not _PATTERN.fullmatch(text) or len(text) > MAX_NAME:
        raise node.error(f"a DNS name of at most {MAX_NAME} characters, with * for a part")
    return normal(text)


def normal(name: str) -> str:
    """DNS does not tell cases apart, and every name ends in the root."""
    return name.rstrip(".").lower() or "."


def name_matches(pattern: str, name: str) -> bool:
    """Whether a pattern matches a name; both normal. "**." stands for any number of labels."""
    if pattern in ("*", name):
        return True
    if "*" not in pattern:
        return False
    prefix = ""
    if pattern.startswith("**."):
        prefix, pattern = r"(?:[-a-z0-9_]+\.)+", pattern[3:]
    body = r"[-a-z0-9_]*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(prefix + body, name) is not None


def regex(node: Node) -> str:
    """A regular expression in RE2's language, within the cap."""
    text = node.text()
    if len(text) > MAX_REGEX:
        raise node.error(f"at most {MAX_REGEX} characters", f"{len(text)} characters")
    problem = _re2_problem(text)
    if problem:
        raise node.error(f"a regular expression of RE2's syntax ({problem})")
    return text


def _re2_problem(text: str) -> str:
    try:
        import re2
    except ModuleNotFoundError:
        return re2_problem(text)
    try:
        options = re2.Options()
        options.log_errors = False
        re2.compile(text, options=options)
    except re2.error as error:
        detail = error.args[0] if error.args else error
        return detail.decode() if isinstance(detail, bytes) else str(detail)
    return ""
