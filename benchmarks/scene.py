# SPDX-License-Identifier: Apache-2.0
"""A node with three pods, a policy and services, for the packets of `packet`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.frames import ACK, SYN, Tuple, tcp_frame
from benchmarks.node import Node
from benchmarks.wrapper import Place, Wrapped
from pycilium import Endpoint, Policy, ServiceLB
from pycilium.libbpf import RingBuffer
from pycilium.net import NetNS, sysctl

CLIENT, SERVER, STRANGER = "10.1.0.10", "10.1.0.20", "10.1.0.30"
CLIENT6, SERVER6 = "fd00:10:1::10", "fd00:10:1::20"
WORLD, WORLD6 = "198.51.100.7", "2001:db8::7"
FRONTEND, FRONTEND6 = "10.96.0.1", "fd00:10:96::1"
FRONTENDS = 16  # new connections take turns at 10.96.0.0 to 10.96.0.15
PORT = 8080
SOURCE_PORT = 40000

REDIRECT = 7
SHOT = 2
TO_STACK = (0, -1, 0xFFFFFFFF)  # TC_ACT_OK, TCX_NEXT

POLICIES = f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: server
spec:
  endpointSelector: {{matchLabels: {{app: server}}}}
  ingress:
  - fromEndpoints:
    - matchLabels: {{app: client}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: client
spec:
  endpointSelector: {{matchLabels: {{app: client}}}}
  egress:
  - toEndpoints:
    - matchLabels: {{app: server}}
  - toCIDR: [198.51.100.0/24, "2001:db8::/32"]
"""
