# SPDX-License-Identifier: Apache-2.0
"""eBPF networking for Linux as a library: identities, policies, services, explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycilium.lazy import public

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pycilium.datapath import Datapath
    from pycilium.errors import (
        ClosedError,
        ConflictError,
        KernelError,
        MapFullError,
        NotSupportedError,
        PermissionDeniedError,
        PyciliumError,
        SpecError,
        VerifierError,
    )
    from pycilium.model import (
        Backend,
        Endpoint,
        Flow,
        Identity,
        Labels,
        Policy,
        Rule,
        Selector,
        ServiceLB,
        Verdict,
    )

_HOME = {
    "Datapath": "pycilium.datapath",
    **dict.fromkeys(
        (
            "ClosedError",
            "ConflictError",
            "KernelError",
            "MapFullError",
            "NotSupportedError",
            "PermissionDeniedError",
            "PyciliumError",
            "SpecError",
            "VerifierError",
        ),
        "pycilium.errors",
    ),
    **dict.fromkeys(
        (
            "Backend",
            "Endpoint",
            "Flow",
            "Identity",
            "Labels",
            "Policy",
            "Rule",
            "Selector",
            "ServiceLB",
            "Verdict",
        ),
        "pycilium.model",
    ),
}

__all__ = [
    "Backend",
    "ClosedError",
    "ConflictError",
    "Datapath",
    "Endpoint",
    "Flow",
    "Identity",
    "KernelError",
    "Labels",
    "MapFullError",
    "NotSupportedError",
    "PermissionDeniedError",
    "Policy",
    "PyciliumError",
    "Rule",
    "Selector",
    "ServiceLB",
    "SpecError",
    "Verdict",
    "VerifierError",
    "__version__",
]

__getattr__, __dir__ = public(__name__, _HOME)
