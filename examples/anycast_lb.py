# SPDX-License-Identifier: Apache-2.0
"""Two nodes announce one address; the one that serves dies, and the router moves on.

Needs root: everything happens in three network namespaces of its own. The router is a pycilium
speaker too, which writes what it learns into its kernel's table.
"""

import asyncio
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from pycilium.bgp import DynamicPeers, KernelRoutes, PeerOptions, Speaker
from pycilium.net import Fib, NetNS, addresses, links

VIP = "10.96.0.10"
NODE = Path(__file__).with_name("bgp_speaker.py")
SERVE = ["-m", "http.server", "80", "--bind", VIP, "--directory"]


def connect(router: NetNS, node: NetNS, number: int) -> None:
    """A wire of its own for each node, and the address that both have."""
    near, far = links.create_veth(f"node{number}", "uplink", ns=router, peer_ns=node)
    for end, ns, last in ((near, router, 254), (far, node, 1)):
        links.set_up(end.index, ns=ns)
        addresses.add(f"10.0.{number}.{last}/24", end.index, ns=ns)
    addresses.add(f"{VIP}/32", links.get("lo", ns=node).index, ns=node)


def start(node: NetNS, number: int, folder: Path) -> list["subprocess.Popen[bytes]"]:
    """A web server that says which node it is, and the speaker that announces it."""
    served = folder / f"node{number}"
    served.mkdir()
    (served / "index.html").write_text(f"hello from node {number}\n")
    speaker = [str(NODE), f"10.0.{number}.254", f"10.0.{number}.1", f"{VIP}:80/tcp", f"{VIP}:80"]
    quiet = subprocess.DEVNULL
    return [
        node.popen([sys.executable, *words], stdout=quiet, stderr=quiet)
        for words in ([*SERVE, str(served)], speaker)
    ]


def ask(router: NetNS) -> str:
    """What a client behind the router gets."""
    code = (
        f"import urllib.request as u; print(u.urlopen('http://{VIP}/', timeout=1).read().decode())"
    )
    done = router.popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=-3)
    return done.communicate()[0].decode().strip() or "no answer"


async def until(router: NetNS, fib: Fib, count: int) -> None:
    """The router's kernel sends the address by so many ways."""
    async with asyncio.timeout(20):
        while len(fib.gateways(f"{VIP}/32")) != count:
            await asyncio.sleep(0.02)
    print(f"{VIP} goes by {', '.join(fib.gateways(f'{VIP}/32'))}: {ask(router)}")


async def main(folder: Path) -> None:
    """Bring up two nodes, kill one, see the other serve."""
    with ExitStack() as stack:
        router = stack.enter_context(NetNS.create())
        nodes = [stack.enter_context(NetNS.create()) for _ in range(2)]
        fib = Fib(ns=router)
        fast = PeerOptions(hold_time=3, graceful_restart=0)
        anybody = DynamicPeers("10.0.0.0/16", asns=[64512], options=fast)
        async with Speaker(
            asn=64513,
            router_id="10.0.0.254",
            dynamic=[anybody],
            listen=True,
            make_socket=router.socket,
        ) as speaker:
            kernel = KernelRoutes(fib)
            feed = speaker.events(routes=True, max_paths=2)
            following = asyncio.create_task(kernel.follow(feed))
            running = []
            for number, node in enumerate(nodes):
                connect(router, node, number)
                running.append(start(node, number, folder))
                await until(router, fib, number + 1)
            for process in running[0]:
                process.send_signal(signal.SIGKILL)
            print("node 0 is dead")
            await until(router, fib, 1)
            feed.close()
            await following
            for process in (one for pair in running for one in pair):
                process.kill()
                process.wait()


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        asyncio.run(main(Path(name)))
