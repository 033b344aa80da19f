# SPDX-License-Identifier: Apache-2.0
"""`pycilium explain`: what a code means, and which code a tool's message has."""

from __future__ import annotations

import sys

import click

from pycilium.cli.output import table
from pycilium.doctor import RULES, Failure, diagnose, find_rule, page
from pycilium.errors import SpecError
from pycilium.reader import MAX_BYTES


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """What a code such as PYC-A1 means; without one, all codes.

    With - it reads messages of any tool from standard input (libbpf, bpftool, tc, ip, a verifier's
    log) and says which rules speak of them on this machine. Exit code 1 if none does.
    """
    if code is None:
        click.echo(table(("code", "title"), [{"code": r.code, "title": r.title} for r in RULES]))
    elif code == "-":
        _of_messages(sys.stdin.read(MAX_BYTES + 1))
    else:
        click.echo(page(find_rule(code)).rstrip("\n"))


def _of_messages(text: str) -> None:
    if len(text) > MAX_BYTES:
        raise SpecError("standard input", len(text), f"at most {MAX_BYTES} characters")
    found = diagnose(Failure(messages=text, log=text))
    click.echo(str(found))
    sys.exit(0 if found else 1)
