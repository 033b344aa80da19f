# SPDX-License-Identifier: Apache-2.0
"""The kernel's own words for a refused XDP link, which it gives to a tracepoint only.

Linux 6.6 and later, with CAP_PERFMON; elsewhere there are no words, and the errno must do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from pycilium.errors import KernelError
from pycilium.libbpf._native import lib

_TRACEPOINT = b"bpf_xdp_link_attach_failed"


def again(create: Callable[[], int], first: int) -> tuple[int, str]:
    """Repeat a failed attachment while listening: its result, and what the kernel said."""
    from pycilium.libbpf.spec import ObjectSpec

    spec = ObjectSpec.bundled("xdp_failure")
    try:
        with spec.load(variables={"pcl_thread": threading.get_native_id()}) as loaded:
            listening = lib.bpf_raw_tracepoint_open(
                _TRACEPOINT, loaded.programs["xdp_attach_failed"].fd
            )
            if listening < 0:
                return first, ""
            try:
                result = create()
            finally:
                os.close(listening)
            text = loaded.maps["pcl_xdp_text"].lookup(bytes(4)) or b""
    except KernelError:  # not allowed to listen
        return first, ""
    return result, text.split(b"\0")[0].decode(errors="replace")
