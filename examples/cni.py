# SPDX-License-Identifier: Apache-2.0
"""A complete CNI plugin: copy it to a runtime's plugin directory, under the name of your network.

Each container gets an address, its labels from the runtime, and the policies of POLICIES, which
are in force before its interface comes up.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pycilium import Policy
from pycilium.cni import Network, Plugin, Request, standing_datapath
from pycilium.ipam import HostScope, Pool

STATE = Path(os.environ.get("EXAMPLE_STATE", "/run/example-cni"))
BPFFS = os.environ.get("EXAMPLE_BPFFS", "/sys/fs/bpf")
POLICIES = Path(os.environ.get("EXAMPLE_POLICIES", "/etc/example-cni/policies.yaml"))
POOL = Pool(ipv4="10.88.0.0/16", ipv6="fd00:88::/64")


@contextmanager
def network(_request: Request) -> Iterator[Network]:
    """The node, for one call: who comes at the same time waits."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (
        HostScope.open(POOL, path=STATE / "addresses", wait=30) as addresses,
        standing_datapath("example", BPFFS) as datapath,
    ):
        datapath.policies.apply(Policy.from_yaml(POLICIES))
        yield Network(datapath, addresses)


if __name__ == "__main__":
    Plugin(network).main()
