# SPDX-License-Identifier: Apache-2.0
"""Run the competitors' tools inside a namespace, and time them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence

from benchmarks.errors import BenchmarkError
from pycilium.net import NetNS

IPTABLES_LEGACY = ("iptables-legacy-restore", "--wait", "60")
IPTABLES_NFT = ("iptables-nft-restore",)
NFTABLES = ("nft", "-f", "-")


def feed(namespace: NetNS, command: Sequence[str], text: str) -> float:
    """Seconds that a tool takes for its input, with the start of its process."""
    if not shutil.which(command[0]):
        raise BenchmarkError(f"{command[0]} is not installed: apt-get install iptables nftables")
    content = text.encode()
    begin = time.perf_counter()
    process = namespace.popen(
        list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, complaint = process.communicate(content)
    spent = time.perf_counter() - begin
    if process.returncode:
        raise BenchmarkError(f"{' '.join(command)}: {complaint.decode().strip()}")
    return spent
