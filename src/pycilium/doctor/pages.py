# SPDX-License-Identifier: Apache-2.0
"""The page of a rule: what `pycilium explain` prints and docs/errors holds."""

from __future__ import annotations

import errno

from pycilium.doctor.rule import Rule
from pycilium.doctor.rules import RULES


def page(rule: Rule) -> str:
    """One rule as Markdown; what depends on the case stands in capitals."""
    values = _Capitals()
    return "\n".join(
        (
            f"# {rule.code}: {rule.title}",
            "",
            f"**Cause**: {_sentence(rule.cause.format_map(values))}",
            "",
            f"**What to do**: `{rule.fix.format_map(values)}`"
            if _is_command(rule.fix)
            else f"**What to do**: {rule.fix.format_map(values)}",
            "",
            rule.more,
            "",
            f"Seen in: {', '.join(one.rstrip(' *') for one in rule.operations)}{_errnos(rule)}.",
            *(("", "What was said matches:", "", "```text", rule.said, "```") if rule.said else ()),
            "",
        )
    )


def index() -> str:
    """All rules as a table of Markdown, for docs/errors/index.md."""
    rows = (f"| [{rule.code}]({rule.code}.md) | {rule.title} |" for rule in RULES)
    head = ("# Codes", "", "| code | what |", "|---|---|")
    toc = ("", "```{toctree}", ":hidden:", *(rule.code for rule in RULES), "```", "")
    return "\n".join((*head, *rows, *toc))


class _Capitals(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return key.upper()


def _is_command(fix: str) -> bool:
    return (
        fix.split(maxsplit=1)[0] in ("mount", "umount", "sysctl")
        and ";" not in fix
        and "," not in fix
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _errnos(rule: Rule) -> str:
    names = [errno.errorcode.get(one, {524: "ENOTSUPP"}.get(one, str(one))) for one in rule.errnos]
    return f"; errno {', '.join(names)}" if names else ""
