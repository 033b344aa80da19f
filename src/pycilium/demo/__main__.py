# SPDX-License-Identifier: Apache-2.0
"""python -m pycilium.demo: see the package's docstring. Exit status 0 only if all held."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from types import FrameType

from pycilium import Datapath, PyciliumError, ServiceLB
from pycilium.datapath import Endpoint
from pycilium.demo.screen import Screen
from pycilium.demo.traffic import Answer, Stream, get
from pycilium.libbpf import ObjectSpec
from pycilium.model import Policy
from pycilium.net import NetNS
from pycilium.policy import load_manifests

SERVICE = "10.96.0.10:80/tcp"
BACKENDS = ("10.1.0.21", "10.1.0.22", "10.1.0.23")
PODS = {
    "frontend-1": ("10.1.0.11", "frontend"),
    "frontend-2": ("10.1.0.12", "frontend"),
    "stranger": ("10.1.0.66", "stranger"),
    **{f"backend-{n}": (address, "backend") for n, address in enumerate(BACKENDS, 1)},
}
REQUESTS = 60


class Expectations:
    """What must hold, and what did not."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.failed: list[str] = []

    def check(self, text: str, held: object) -> None:
        """Print one expectation and remember it if it did not hold."""
        self._screen.line(f"{'✓' if held else '✗'} {text}")
        if not held:
            self.failed.append(text)


class Shop:
    """Six pods, a policy of two documents and a service with three backends."""

    def __init__(self, datapath: Datapath, stack: ExitStack) -> None:
        self.datapath = datapath
        self.pods = {name: self._pod(name, *pod) for name, pod in PODS.items()}
        for name, pod in self.pods.items():
            if name.startswith("backend"):
                stack.enter_context(serve(pod, name))
        self.policies: list[Policy] = load_manifests(str(files(__package__) / "policies.yaml"))
        datapath.policies.apply(self.policies)
        datapath.services.apply([ServiceLB(SERVICE, backends=[f"{b}:8080" for b in BACKENDS])])

    def _pod(self, name: str, address: str, app: str) -> Endpoint:
        labels = {"app": app, "io.kubernetes.pod.namespace": "shop"}
        return self.datapath.endpoints.create(address, labels=labels, name=name)


@contextmanager
def serve(pod: Endpoint, name: str) -> Iterator[None]:
    """A real HTTP server in a process of its own inside the pod."""
    command = [sys.executable, "-m", "pycilium.demo.server", name]
    process = pod.namespace.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait(5)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def show_matrix(shop: Shop, screen: Screen, expect: Expectations) -> None:
    """Who may reach whom by the rules, beside what really happened."""
    screen.heading("Who may reach whom: the rules, and what really happened")
    rows, agreed = [], True
    for name in ("frontend-1", "frontend-2", "stranger"):
        for target, host, port in (
            ("service", "10.96.0.10", 80),
            ("backend-1", BACKENDS[0], 8080),
            ("backend-1 (ssh)", BACKENDS[0], 22),
            ("frontend-2", PODS["frontend-2"][0], 8080),
        ):
            if target == name:
                continue
            foretold = shop.datapath.explain(shop.pods[name], f"{host}:{port}/tcp")
            answer = get(shop.pods[name], host, port)
            got_through = answer.reached or answer.text == "ConnectionRefusedError"
            agreed = agreed and foretold.allowed == got_through
            rows.append(
                (name, target, yes(foretold.allowed), outcome(answer), str(foretold.rule or ""))
            )
    screen.table(("from", "to", "allowed", "happened", "decided by"), rows)
    expect.check("what happened is what the kernel's programs foretold", agreed)


def yes(value: object) -> str:
    """A truth value in a word."""
    return "yes" if value else "no"


def outcome(answer: Answer) -> str:
    """What a client saw, in a few words."""
    return f"yes: {answer.text}" if answer.reached else f"no: {answer.text}"


def show_balance(shop: Shop, screen: Screen, expect: Expectations) -> None:
    """How one service's requests spread over its backends."""
    screen.heading(f"{REQUESTS} requests to {SERVICE}")
    answers = [get(shop.pods["frontend-1"], "10.96.0.10", 80) for _ in range(REQUESTS)]
    counts = Counter(answer.text for answer in answers)
    screen.table(
        ("backend", "requests", ""),
        [(name, str(count), "█" * count) for name, count in sorted(counts.items())],
    )
    expect.check("every request was answered", all(answer.reached for answer in answers))
    expect.check("every backend had its share", set(counts) == {f"backend-{n}" for n in (1, 2, 3)})


def show_flows(shop: Shop, screen: Screen, expect: Expectations) -> None:
    """What the kernel reported, with the rule behind every verdict."""
    screen.heading("Flows, as the kernel reported them")
    list(shop.datapath.flows(timeout=0))
    get(shop.pods["frontend-2"], "10.96.0.10", 80)
    get(shop.pods["stranger"], BACKENDS[1], 8080)
    flows = [str(flow) for flow in shop.datapath.flows(timeout=0.2)]
    for flow in flows[:8]:
        screen.line(flow)
    expect.check("flows tell of both verdicts", any("policies.yaml" in flow for flow in flows))


def show_explanation(shop: Shop, screen: Screen, expect: Expectations) -> None:
    """One denied request, step by step."""
    screen.heading("Why may the stranger not ask the backend?")
    explanation = shop.datapath.explain(shop.pods["stranger"], SERVICE)
    screen.line(str(explanation))
    expect.check("the denial is explained", not explanation.allowed and explanation.steps)


def show_revocation(shop: Shop, screen: Screen, expect: Expectations) -> None:
    """A rule is taken back while a connection is open."""
    screen.heading("A rule is revoked while a connection is open")
    keep = [policy for policy in shop.policies if policy.name != "frontend"]
    deny = Policy.deny(to="app=backend", from_="app=frontend", ports="8080/tcp")
    with Stream(shop.pods["frontend-1"], "10.96.0.10", 80) as stream:
        before = len(stream)
        started = time.monotonic()
        delta = shop.datapath.policies.apply([*keep, deny])
        finished = time.monotonic()
    late = max(0.0, stream.last_answer - finished)
    screen.line(f"{before} answers before; {delta} in {(finished - started) * 1e3:.1f} ms")
    screen.line(f"last answer {late * 1e3:.1f} ms after apply() returned")
    expect.check("the open connection fell silent within 100 ms", before >= 10 and late < 0.1)
    shop.datapath.policies.apply(shop.policies)
    answer = get(shop.pods["frontend-1"], "10.96.0.10", 80, timeout=2)
    expect.check("and is allowed again when the rule returns", answer.reached)


def show_cost(shop: Shop, screen: Screen, expect: Expectations) -> None:
    """Nanoseconds of one established packet, beside a program that only returns."""
    screen.heading("Cost of a packet")
    with ObjectSpec.bundled("empty").load() as empty:
        floor = empty.programs["empty"].test_run(b"\0" * 64, repeat=200_000).nanoseconds
    ours = shop.datapath.measure(shop.pods["stranger"], "192.0.2.1:80/tcp", repeat=200_000)
    screen.table(
        ("program", "ns per packet"),
        [
            ("empty: only returns", f"{floor:.0f}"),
            ("from_endpoint: parse, conntrack with verdict, counters", f"{ours:.0f}"),
        ],
    )
    expect.check("both were measured", floor > 0 and ours > floor)


def run(screen: Screen) -> int:
    """The whole demonstration; the number of expectations that did not hold."""
    expect = Expectations(screen)
    with ExitStack() as stack:
        node = stack.enter_context(NetNS.create())
        datapath = stack.enter_context(node.run(Datapath.open))
        screen.line("A node with six pods, two policies and one service, in namespaces of its own.")
        shop = Shop(datapath, stack)
        for part in (
            show_matrix, show_balance, show_flows, show_explanation, show_revocation, show_cost,
        ):  # fmt: skip
            part(shop, screen, expect)
    screen.heading("All held" if not expect.failed else f"{len(expect.failed)} did not hold")
    return len(expect.failed)


def main() -> int:
    """Run it; Ctrl-C and termination clean up as the end does."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return 1 if run(Screen()) else 0
    except KeyboardInterrupt:
        print("interrupted; everything is cleaned up", file=sys.stderr)
        return 130
    except PyciliumError as error:
        print(f"pycilium: {error}", file=sys.stderr)
        return 2


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
