# SPDX-License-Identifier: Apache-2.0
"""What a pinned datapath needs to be taken over: kept beside its maps, in the kernel.

Two banks of chunks and a header; the header is written last, so a reader sees the old
manifest or the new one. It describes a change before the change is visible.
"""

from __future__ import annotations

import enum
import ipaddress
import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from pycilium import model
from pycilium.errors import KernelError
from pycilium.libbpf import Map
from pycilium.model import policy as policy_model
from pycilium.model import selector

CHUNK = 4096
_BANK = 8000
_HEADER = struct.Struct("<QII")  # generation, length, crc32
_VALUES: dict[str, Any] = {
    one.__name__: one
    for one in (
        model.Backend, model.CidrPeer, model.Endpoint, model.Frontend, model.Identity, model.Label,
        model.Labels, model.Policy, model.PortRange, model.Requirement, model.Rule, model.RuleRef,
        model.Selector, model.ServiceLB,
    )
}  # fmt: skip
_ENUMS: dict[str, Any] = {
    "Direction": policy_model.Direction, "Entity": policy_model.Entity, "Operator": selector.Operator,
}  # fmt: skip
_IP = {
    "IPv4Address": ipaddress.ip_address, "IPv6Address": ipaddress.ip_address,
    "IPv4Network": ipaddress.ip_network, "IPv6Network": ipaddress.ip_network,
}  # fmt: skip


def write(chunks: Map, content: Mapping[str, Any]) -> None:
    """Put a manifest beside the one that is there, then switch to it."""
    raw = zlib.compress(json.dumps(encode(content), separators=(",", ":")).encode())
    generation = _generation(chunks) + 1
    bank = 1 + (generation % 2) * _BANK
    count = -(-len(raw) // CHUNK)
    if count >= _BANK:
        raise KernelError(7, "write manifest", chunks.name, meaning=f"{len(raw)} bytes are too many")
    rows = [(bank + i, {"bytes": raw[i * CHUNK : (i + 1) * CHUNK]}) for i in range(count)]
    chunks.update(rows)
    chunks[0] = {"bytes": _HEADER.pack(generation, len(raw), zlib.crc32(raw))}


def read(chunks: Map) -> dict[str, Any]:
    """The manifest; KernelError where it is damaged."""
    generation, length, checksum = _HEADER.unpack_from(chunks[0].bytes)
    bank = 1 + (generation % 2) * _BANK
    count = -(-length // CHUNK)
    raw = b"".join(chunks[bank + i].bytes for i in range(count))[:length]
    if zlib.crc32(raw) != checksum:
        raise KernelError(5, "read manifest", chunks.name, meaning="its checksum does not match")
    found: dict[str, Any] = decode(json.loads(zlib.decompress(raw)))
    return found


def encode(value: Any) -> Any:
    """Model values as JSON, each under the name of its type."""
    name = type(value).__name__
    if isinstance(value, enum.Enum):
        return {"@": name, "value": value.value}
    if name in _VALUES:
        fields = attrs.fields(type(value))
        return {"@": name, **{field.name: encode(getattr(value, field.name)) for field in fields}}
    if name in _IP:
        return {"@": name, "value": str(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): encode(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(one) for one in value]
    return value


def decode(value: Any) -> Any:
    """The other way round; lists become tuples."""
    if isinstance(value, list):
        return tuple(decode(one) for one in value)
    if not isinstance(value, dict):
        return value
    name = value.get("@")
    if name in _ENUMS:
        return _ENUMS[name](value["value"])
    if name in _IP:
        return _IP[name](value["value"])
    fields = {key: decode(one) for key, one in value.items() if key != "@"}
    return _VALUES[name](**fields) if name else fields


def _generation(chunks: Map) -> int:
    try:
        generation: int = _HEADER.unpack_from(chunks[0].bytes)[0]
    except KeyError:
        return 0
    return generation
