# SPDX-License-Identifier: Apache-2.0
"""The plugin as a process of its own: what the executable starts where no agent answers."""

from __future__ import annotations

from pycilium.cni.node import for_request, queue_of
from pycilium.cni.plugin import Plugin

if __name__ == "__main__":
    Plugin(for_request, queue=queue_of).main()
