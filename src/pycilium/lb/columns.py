# SPDX-License-Identifier: Apache-2.0
"""Many services as columns: NumPy arrays of frontends and backends, checked as a whole.

Needs numpy, which the extra `data` brings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from pycilium.errors import SpecError

if TYPE_CHECKING:
    import numpy as np

_PROTOCOLS = (6, 17)


@attrs.frozen(eq=False, kw_only=True)
class ServiceColumns:
    """N services over M backends: ClusterIP, random, all backends active and of equal weight.

    addresses: (N, 16) bytes, IPv4 in the first four and zeros behind. ports, protocols (6 or 17),
    families (4 or 6), counts: (N,). backend_addresses: (M, 16) bytes, the first counts[0] rows of
    the first service and so on; backend_ports: (M,). Raises SpecError that names column and row.
    """

    addresses: np.ndarray
    ports: np.ndarray
    protocols: np.ndarray
    families: np.ndarray
    counts: np.ndarray
    backend_addresses: np.ndarray
    backend_ports: np.ndarray

    def __attrs_post_init__(self) -> None:
        services, backends = len(self.ports), len(self.backend_ports)
        for name, rows, width in (
            ("addresses", services, 16),
            ("ports", services, 0),
            ("protocols", services, 0),
            ("families", services, 0),
            ("counts", services, 0),
            ("backend_addresses", backends, 16),
            ("backend_ports", backends, 0),
        ):
            self._check_shape(name, (rows, width) if width else (rows,))
        self._check_values("ports", (self.ports > 0) & (self.ports < 65536), "1 to 65535")
        self._check_values("protocols", _among(self.protocols, _PROTOCOLS), "6 (tcp) or 17 (udp)")
        self._check_values("families", _among(self.families, (4, 6)), "4 or 6")
        self._check_values("counts", self.counts >= 0, "0 or more")
        ports = (self.backend_ports > 0) & (self.backend_ports < 65536)
        self._check_values("backend_ports", ports, "1 to 65535")
        if int(self.counts.sum()) != backends:
            total = int(self.counts.sum())
            raise SpecError("counts", total, f"{backends} together, as there are backends")

    @classmethod
    def ipv4(
        cls,
        addresses: Any,
        ports: Any,
        counts: Any,
        backend_addresses: Any,
        backend_ports: Any,
        *,
        protocol: int = 6,
    ) -> ServiceColumns:
        """IPv4 services of one protocol; addresses as numbers, 10.0.0.1 is 0x0a000001."""
        import numpy as np

        size = len(ports)
        return cls(
            addresses=_packed(addresses),
            ports=np.asarray(ports, dtype=np.int64),
            protocols=np.full(size, protocol),
            families=np.full(size, 4),
            counts=np.asarray(counts, dtype=np.int64),
            backend_addresses=_packed(backend_addresses),
            backend_ports=np.asarray(backend_ports, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.ports)

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        column = getattr(self, name)
        if column.dtype.kind not in "iu" or column.shape != shape:
            allowed = f"whole numbers of shape {shape}"
            raise SpecError(name, f"{column.dtype} of shape {column.shape}", allowed)
        if len(shape) == 2 and column.dtype.itemsize != 1:
            raise SpecError(name, str(column.dtype), "bytes (uint8)")

    def _check_values(self, name: str, good: np.ndarray, allowed: str) -> None:
        if not good.all():
            row = int((~good).argmax())
            raise SpecError(f"{name}[{row}]", int(getattr(self, name)[row]), allowed)


def _among(column: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    import numpy as np

    return np.isin(column, values)


def _packed(numbers: Any) -> np.ndarray:
    import numpy as np

    numbers = np.ascontiguousarray(numbers, dtype=">u4")
    found = np.zeros((len(numbers), 16), dtype=np.uint8)
    found[:, :4] = numbers.view(np.uint8).reshape(-1, 4)
    return found
