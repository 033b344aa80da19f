# SPDX-License-Identifier: Apache-2.0
"""First light: two pods, a policy and a service, decided in the kernel, explained from Python."""

import socket

from pycilium import Datapath, Policy, ServiceLB
from pycilium.datapath import Endpoint
from pycilium.net import NetNS


def talk(client: Endpoint, server: Endpoint, host: str, port: int) -> str:
    """One real TCP connection from pod to pod: what the server said, or what went wrong."""
    with server.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((str(server.ip), port))
        listener.listen()
        with client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.settimeout(0.3)
            try:
                connection.connect((host, port))
            except TimeoutError:
                return "timed out"
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"hello from " + server.name.encode())
            return connection.recv(100).decode()


def main() -> None:
    """Show what is allowed, what happens, and why."""
    with Datapath.open() as dp:
        web = dp.endpoints.create("10.1.0.10", labels={"app": "web"}, name="web")
        db = dp.endpoints.create("10.1.0.20", labels={"app": "db"}, name="db")
        dp.policies.apply(Policy.allow(to="app=db", from_="app=web", ports="5432/tcp"))
        dp.services.apply([ServiceLB("10.96.0.10:5432/tcp", backends=["10.1.0.20:5432"])])

        print("web to the service:", talk(web, db, "10.96.0.10", 5432))
        print("web to port 22:    ", talk(web, db, "10.1.0.20", 22))
        print(dp.explain(web, db, "22/tcp"))
        for flow in dp.flows(timeout=0.1):
            print(flow)


if __name__ == "__main__":
    with NetNS.create() as node:  # a namespace plays the host: nothing outside is touched
        node.run(main)
