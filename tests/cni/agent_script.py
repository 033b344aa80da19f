# SPDX-License-Identifier: Apache-2.0
"""Has the node of a configuration and answers at a socket, until its standard input ends."""

from __future__ import annotations

import json
import sys

from pycilium.cni import Server, Settings, opened
from pycilium.cni.node import apply_policies


def main() -> None:
    settings = Settings.of(json.loads(sys.argv[1]))
    with opened(settings) as network:
        apply_policies(network.datapath, settings.policies)
        with Server.open(network, sys.argv[2]):
            print("ready", flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
