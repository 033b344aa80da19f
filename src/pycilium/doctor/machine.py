# SPDX-License-Identifier: Apache-2.0
"""What the probes may ask of a machine; `Machine` asks the running one."""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pycilium.errors import PyciliumError

if TYPE_CHECKING:
    from pycilium.net.devices import Device

_SECONDS = 5


class Machine:
    """The running machine, as the calling thread sees it. None is "cannot tell"."""

    def text(self, path: str) -> str | None:
        """A file's content, unpacked; None where it is missing or closed to us."""
        try:
            raw = Path(path).read_bytes()
        except OSError:
            return None
        return (gzip.decompress(raw) if path.endswith(".gz") else raw).decode(errors="replace")

    def names(self, path: str) -> tuple[str, ...]:
        """What a directory holds, sorted; nothing where there is none."""
        try:
            return tuple(sorted(os.listdir(path)))  # noqa: PTH208 - names, not paths
        except OSError:
            return ()

    def target(self, path: str) -> str:
        """Where a symbolic link points, as for namespaces; "" where it cannot be read."""
        try:
            return os.readlink(path)  # noqa: PTH115 - not a path
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.lexists(path)

    @property
    def release(self) -> str:
        """As in 6.18.44."""
        return os.uname().release

    @property
    def architecture(self) -> str:
        """As in x86_64."""
        return os.uname().machine

    @property
    def page_size(self) -> int:
        """In bytes."""
        return os.sysconf("SC_PAGESIZE")

    def loads(self, program_type: str) -> bool | None:
        """Whether a trivial program of a type loads."""
        from pycilium.libbpf import CgroupHook, ProgramType, features

        if program_type == "CGROUP_SOCK_ADDR":  # it has to say for which call it is
            return features.have_cgroup_hook(CgroupHook.INET4_CONNECT)
        if program_type not in ProgramType.__members__:
            return None
        return features.have_program_type(ProgramType[program_type])

    def answer_to_nonsense(self) -> int:
        """The errno of a bpf(2) command that no kernel has: EINVAL, unless a filter refuses."""
        from pycilium.libbpf import features

        return features.errno_of_unknown_command()

    def has_tcx(self) -> bool:
        """Whether tc programs attach by link."""
        from pycilium.libbpf import features

        return features.have_tcx()

    def device(self, index: int) -> Device | None:
        """One device of this namespace; None where there is none."""
        from pycilium.net import devices

        return devices.read(index) if index else None

    def devices(self) -> list[Device]:
        """Every device of this namespace."""
        from pycilium.net import devices

        return devices.read_all()

    def chain(self, index: int) -> tuple[str, ...]:
        """The TCX programs of a device in their order, each as "rx from_endpoint (7)"."""
        from pycilium.libbpf import Hook, attachments

        if not self.has_tcx():
            return ()
        return tuple(
            f"{hook.name.lower()} {one.program_name} ({one.program_id})"
            for hook in Hook
            for one in attachments(index, hook)
        )

    def program_name(self, number: int) -> str:
        """As in "drop (7)"; the number alone where it is gone."""
        from pycilium.libbpf import Program

        try:
            with Program.from_id(number) as program:
                return f"{program.name} ({number})"
        except PyciliumError:
            return str(number)

    def xdp_owner(self, index: int, program: int) -> str:
        """The link that holds an XDP program and who has it open; "no link" where none does."""
        from pycilium.libbpf import inventory

        held = [one for one in inventory.links() if one.type == "xdp" and one.ifindex == index]
        mine = next((one for one in held if one.program_id == program), None)
        if mine is None:
            return "no link: it was put there with netlink"
        processes = inventory.holders("link", mine.id)
        return f"link {mine.id} of {', '.join(processes) or 'a pin'}"

    def chains(self) -> tuple[str, ...]:
        """The names of netfilter's chains, of both backends; nothing where no tool is there."""
        found = _run(["nft", "list", "chains"])
        if self.text("/proc/net/ip_tables_names"):
            found += _run(["iptables-legacy-save"])
        words = [line.split() for line in found.splitlines() if line.strip()]
        names = [_chain(line) for line in words]
        return tuple(dict.fromkeys(name for name in names if name))

    def has_distribution(self, name: str) -> bool:
        """Whether a Python distribution is installed."""
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            return False
        return True


def _chain(words: Iterable[str]) -> str:
    first, *rest = words
    if first == "chain" and rest:
        return rest[0]
    return first[1:] if first.startswith(":") else ""


def _run(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
