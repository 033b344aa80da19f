# SPDX-License-Identifier: Apache-2.0
"""Map entries as text, for the details of a Delta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycilium.model import Change

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pycilium.libbpf import MapSpec


def changes(
    spec: MapSpec, name: str, before: Mapping[bytes, bytes], after: Mapping[bytes, bytes]
) -> Iterator[Change]:
    """What turns one map's entries into others."""
    for key, value in after.items():
        if before.get(key) != value:
            yield Change(name, _text(spec.key, key), _text(spec.value, value))
    for key in before:
        if key not in after:
            yield Change(name, _text(spec.key, key), None)


def _text(codec: Any, raw: bytes) -> str:
    return raw.hex() if codec is None else record_text(codec.decode(raw))


def record_text(value: Any) -> str:
    """A decoded key or value: field=value, ports in the usual order, addresses as hex."""
    if not hasattr(value, "_asdict"):
        return value.hex() if isinstance(value, bytes) else str(value)
    fields = value._asdict().items()
    return " ".join(
        f"{name.removesuffix('_be')}={_field(name, one)}"
        for name, one in fields
        if name != "pad"
    )  # fmt: skip


def _field(name: str, value: Any) -> str:
    if hasattr(value, "bytes"):
        return str(value.bytes.hex())
    if name.endswith("port_be"):
        return str(int.from_bytes(value.to_bytes(2, "little"), "big"))
    return record_text(value)
