# SPDX-License-Identifier: Apache-2.0
"""libbpf for Python: specs, objects, maps as mappings, links, ring buffers, test runs.

Usable alone: nothing here knows of identities, policies or services. An `ObjectSpec` is what
a file holds, the same on every machine; `load()` makes an `Object` of it, and only that
touches the kernel. Layouts, enums and values come from BTF, so no struct is written twice.
"""

from __future__ import annotations

from pycilium.libbpf import features
from pycilium.libbpf.codec import packer, struct_fields
from pycilium.libbpf.iterator import read_iterator
from pycilium.libbpf.kinds import CgroupHook, Hook, MapType, ProgramType, XdpMode
from pycilium.libbpf.link import Attachment, Link, LinkInfo, TcFilter, attachments
from pycilium.libbpf.map import Map
from pycilium.libbpf.object import Object
from pycilium.libbpf.program import Program, TestRun
from pycilium.libbpf.ringbuf import RingBuffer, split_records
from pycilium.libbpf.spec import MapSpec, ObjectSpec, ProgramSpec, VariableSpec

__all__ = [
    "Attachment",
    "CgroupHook",
    "Hook",
    "Link",
    "LinkInfo",
    "Map",
    "MapSpec",
    "MapType",
    "Object",
    "ObjectSpec",
    "Program",
    "ProgramSpec",
    "ProgramType",
    "RingBuffer",
    "TcFilter",
    "TestRun",
    "VariableSpec",
    "XdpMode",
    "attachments",
    "features",
    "packer",
    "read_iterator",
    "split_records",
    "struct_fields",
]
