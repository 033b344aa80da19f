# SPDX-License-Identifier: Apache-2.0
"""Under strace: a thousand services, then changes of one, each between two lines on stdout."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any

from pycilium import Backend, Datapath, ServiceLB

FIRST = "10.96.0.0:80"


def backends(*numbers: int, **states: str) -> list[Backend]:
    return [
        Backend(ip_address(f"10.1.0.{n}"), 80, state=states.get(f"s{n}", "active")) for n in numbers
    ]


def main() -> None:
    others = [
        ServiceLB(f"10.96.{n // 256}.{n % 256}:80", backends=["10.1.0.1:80"])
        for n in range(1, 1000)
    ]
    changes: list[tuple[str, dict[str, Any] | None]] = [
        ("added", {"backends": backends(1, 2)}),
        ("one more backend", {"backends": backends(1, 2, 3)}),
        ("a backend less", {"backends": backends(1, 2)}),
        ("another backend", {"backends": backends(1, 4)}),
        ("a backend ends", {"backends": backends(1, 4, s4="terminating")}),
        (
            "affinity",
            {"backends": backends(1, 4, s4="terminating"), "session_affinity": "ClientIP"},
        ),
        ("nothing", {"backends": backends(1, 4, s4="terminating"), "session_affinity": "ClientIP"}),
        ("removed", None),
    ]
    with Datapath.open() as dp:
        dp.services.apply(others)
        for name, options in changes:
            os.write(1, f"begin {name}\n".encode())
            dp.services.apply([*others, *([ServiceLB(FIRST, **options)] if options else [])])
            os.write(1, b"end\n")


if __name__ == "__main__":
    main()
