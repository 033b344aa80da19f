# SPDX-License-Identifier: Apache-2.0
"""`pycilium policy`: ask, test and compare policies without a cluster and without root."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from pycilium.cli.junit import junit
from pycilium.cli.sources import load, texts
from pycilium.documents import one_of
from pycilium.errors import SpecError
from pycilium.model.label_filter import LabelFilter
from pycilium.model.policy import Direction, Policy
from pycilium.model.port import PROTOCOL_NAMES
from pycilium.policy import convert as convert_policies
from pycilium.policy import read_manifests
from pycilium.policy.cases import Suite
from pycilium.policy.policy_set import parse_port_list

EGRESS_INGRESS = (Direction.EGRESS, Direction.INGRESS)
_SOURCES = click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
_PEERS = click.option(
    "--peers", "-p", "peers_file", required=True, metavar="FILE",
    help="YAML with peers, and namespaces and ports if there are.",
)  # fmt: skip
_PORTS = click.option("--port", "ports", multiple=True, help='As in 80 or "53/udp"; may repeat.')
_CIDR = click.option(
    "--cilium-cidr", is_flag=True, help="Prefixes never mean pods or nodes, as in Cilium."
)


def _output(*kinds: str) -> Callable[[Any], Any]:
    return click.option("--output", "-o", type=click.Choice(kinds), default=kinds[0])


@click.group()
def policy() -> None:
    """Ask, test and compare network policies.

    SOURCE: a file, a folder, - for standard input, or REVISION:PATH of git. Documents of kinds
    that are no policies and that policies do not speak of are left out.
    """


@policy.command()
@_SOURCES
def validate(sources: tuple[str, ...]) -> None:
    """Read everything and report what is wrong.

    Exit code 1 if anything is, or if there is no policy at all.
    """
    found = read_manifests(texts(sources), go_on=True)
    for error in found.errors:
        click.echo(str(error), err=True)
    others = f", {_count(found.others, 'other document')} left out" if found.others else ""
    counts = _count(len(found.policies), "policy"), _count(len(found.errors), "error")
    click.echo(f"{', '.join(counts)}{others}")
    sys.exit(1 if found.errors or not found.policies else 0)


@policy.command()
@_SOURCES
@click.option("--cases", "-c", required=True, metavar="FILE", help="YAML with peers and cases.")
@click.option("--junit", "report", metavar="FILE", help="Also write a JUnit report.")
@_CIDR
def test(sources: tuple[str, ...], cases: str, report: str | None, cilium_cidr: bool) -> None:
    """Check expectations.

    Exit code 1 if one does not hold.
    """
    suite = Suite.read(cases)
    if not suite.cases:
        raise SpecError("cases", cases, "at least one case: a test that asks nothing cannot fail")
    outcomes = suite.run(load(sources, suite, cilium_cidr=cilium_cidr))
    failed = [one for one in outcomes if not one.passed]
    click.echo("".join("." if one.passed else "F" for one in outcomes))
    for one in failed:
        click.echo(str(one))
    if report is not None:
        Path(report).write_text(junit(outcomes))
    click.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} cases hold")
    sys.exit(1 if failed else 0)


@policy.command()
@_SOURCES
@_PEERS
@_PORTS
@_CIDR
@_output("table", "text", "json", "html")
def matrix(
    sources: tuple[str, ...],
    peers_file: str,
    ports: tuple[str, ...],
    cilium_cidr: bool,
    output: str,
) -> None:
    """Who reaches whom."""
    suite = Suite.read(peers_file)
    found = load(sources, suite, cilium_cidr=cilium_cidr).matrix(suite.peers, _ports(ports, suite))
    if output == "json":
        click.echo(json.dumps(found.to_rows(), indent=2))
    elif output == "html":
        click.echo(found.to_html())
    elif output == "text" or not sys.stdout.isatty():
        click.echo(str(found))
    else:
        from rich.console import Console

        Console().print(found)


@policy.command()
@click.argument("before")
@click.argument("after")
@_PEERS
@_PORTS
@_CIDR
@_output("text", "markdown", "json")
def diff(
    before: str,
    after: str,
    peers_file: str,
    ports: tuple[str, ...],
    cilium_cidr: bool,
    output: str,
) -> None:
    """What a change opens and closes.

    Exit code 1 if it does either.
    """
    suite = Suite.read(peers_file)
    old = load([before], suite, cilium_cidr=cilium_cidr)
    new = load([after], suite, cilium_cidr=cilium_cidr)
    found = old.diff(new, suite.peers, _ports(ports, suite))
    texts = {"text": found.__str__, "markdown": found.to_markdown, "json": found.to_json}
    click.echo(texts[output]())
    sys.exit(1 if found else 0)


@policy.command()
@_SOURCES
@_PEERS
@click.option("--from", "source", required=True, metavar="PEER")
@click.option("--to", "destination", required=True, metavar="PEER")
@click.option("--port", required=True, help='As in 80 or "53/udp".')
@_CIDR
def explain(
    sources: tuple[str, ...],
    peers_file: str,
    source: str,
    destination: str,
    port: str,
    cilium_cidr: bool,
) -> None:
    """The verdict on one connection, and why.

    Exit code 1 if it is denied.
    """
    suite = Suite.read(peers_file)
    policies = load(sources, suite, cilium_cidr=cilium_cidr)
    ends = _peer(suite, source), _peer(suite, destination)
    (one,) = parse_port_list([port])
    verdict = policies.verdict(*ends, one.first, PROTOCOL_NAMES[one.protocol])
    click.echo(f"{source} → {destination}:{one}")
    for name, end, direction in zip((source, destination), ends, EGRESS_INGRESS, strict=True):
        click.echo(f"├─ {direction!s:8} {name}: {_speaking(policies.selecting(end), direction)}")
    reason, *more = str(verdict).split("; ")
    click.echo("\n   ".join([f"└─ verdict  {reason}", *(f"         {one}" for one in more)]))
    sys.exit(0 if verdict else 1)


@policy.command()
@_SOURCES
@click.option(
    "--peers", "-p", "peers_file", metavar="FILE", help="Also look for selectors without pods."
)
@_output("text", "json")
def lint(sources: tuple[str, ...], peers_file: str | None, output: str) -> None:
    """What is likely not meant.

    Exit code 1 if anything is.
    """
    suite = Suite.read(peers_file) if peers_file else None
    policies = load(sources, suite)
    found = policies.lint(suite.peers if suite else None)
    if output == "json":
        rows = [
            {"kind": f.kind, "file": f.rule.file, "line": f.rule.line, "text": f.text}
            for f in found
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        for one in found:
            click.echo(f"{one.rule.file}:{one.rule.line}: {one.text} [{one.kind}]")
        if not found:
            click.echo(f"nothing to remark on in {_count(len(policies), 'policy')}")
    sys.exit(1 if found else 0)


@policy.command()
@_SOURCES
@_PEERS
@click.option("--from", "source", required=True, metavar="PEER")
@click.option("--to", "destination", required=True, metavar="PEER")
@click.option("--port", required=True, help='As in 80 or "53/udp".')
def suggest(
    sources: tuple[str, ...], peers_file: str, source: str, destination: str, port: str
) -> None:
    """The smallest rules that would allow a connection, as YAML.

    Exit code 1 if a rule denies it, so that no allow helps.
    """
    suite = Suite.read(peers_file)
    (one,) = parse_port_list([port])
    ends = _peer(suite, source), _peer(suite, destination)
    protocol = PROTOCOL_NAMES[one.protocol]
    found = load(sources, suite).suggest(*ends, one.first, protocol)
    click.echo(str(found).rstrip("\n"))
    sys.exit(1 if found.blocked else 0)


@policy.command()
@_SOURCES
def convert(sources: tuple[str, ...]) -> None:
    """Policies of any kind to CiliumNetworkPolicy YAML.

    Exit code 1 if something does not map.
    """
    found = read_manifests(texts(sources), go_on=True)
    converted = convert_policies(found.policies)
    click.echo(converted.yaml, nl=False)
    for problem in (*map(str, found.errors), *converted.problems):
        click.echo(f"not converted: {problem}", err=True)
    sys.exit(1 if found.errors or converted.problems else 0)


@policy.command()
@_SOURCES
@_PEERS
@_PORTS
@click.option(
    "--labels", "-l", "patterns", required=True, metavar="PATTERNS",
    help='Keys that count, as in "app,team.*" or "!pod-template-hash".',
)  # fmt: skip
@_CIDR
def identities(
    sources: tuple[str, ...],
    peers_file: str,
    ports: tuple[str, ...],
    patterns: str,
    cilium_cidr: bool,
) -> None:
    """Try a label filter: which identities merge.

    Exit code 1 if a verdict changes.
    """
    suite = Suite.read(peers_file)
    policies = load(sources, suite, cilium_cidr=cilium_cidr)
    effect = policies.label_effect(LabelFilter(patterns), suite.peers, _ports(ports, suite))
    click.echo(str(effect))
    sys.exit(1 if effect.difference else 0)


def _ports(given: tuple[str, ...], suite: Suite) -> list[str]:
    ports = list(given) or [f"{one.first}/{PROTOCOL_NAMES[one.protocol]}" for one in suite.ports]
    if not ports:
        raise SpecError("ports", "none", "--port, or ports in the peers' file")
    return ports


def _peer(suite: Suite, name: str) -> Any:
    if name not in suite.peers:
        raise SpecError("peer", name, one_of(name, list(suite.peers)))
    return suite.peers[name]


def _speaking(policies: Iterable[Policy], direction: Direction) -> str:
    """The policies that say something of a direction, and whether they close it."""
    words: dict[str, str] = {}
    for one in policies:
        closed = one.denies_by_default(direction)
        if closed or any(rule.direction is direction for rule in one.rules):
            words[one.name] = f"{one.name} ({'denies the rest' if closed else 'has rules'})"
    return ", ".join(words.values()) or "no policy"


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
