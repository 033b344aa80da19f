# SPDX-License-Identifier: Apache-2.0
"""State that survives a crash: files replaced whole, logs of records, locks between processes.

Whatever dies or fails in the middle of a write, who opens the state next finds what was there
before or what was to be there, and never a mixture; what cannot be read is set aside and said.
"""

from __future__ import annotations

from pycilium.durable.files import replace, sync_directory
from pycilium.durable.lock import Lock
from pycilium.durable.log import Log

__all__ = ["Lock", "Log", "replace", "sync_directory"]
