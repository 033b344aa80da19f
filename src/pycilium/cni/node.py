# SPDX-License-Identifier: Apache-2.0
"""The node that a network configuration describes, opened for one call or for a process's life."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from pycilium.cni.errors import CniError, Code
from pycilium.cni.network import Network
from pycilium.cni.queue import Queue
from pycilium.cni.request import Command
from pycilium.errors import ConflictError, SpecError

if TYPE_CHECKING:
    from pycilium.cni.request import Request
    from pycilium.datapath import Datapath
    from pycilium.ipam import Pool

STATE = "/run/pycilium"
_BPFFS = "/sys/fs/bpf"


def _pools(values: object) -> tuple[Pool, ...]:
    from pycilium.ipam import Pool

    if not isinstance(values, list | tuple):
        raise SpecError("pools", values, "a list of pools")
    return tuple(one if isinstance(one, Pool) else Pool.from_dict(one) for one in values)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise SpecError("configuration", value, "text")
    return value


@attrs.frozen(kw_only=True)
class Settings:
    """Keys of the network configuration that say where a node's state is.

    state: the directory of the accounts and the queue. pin, bpffs: the datapath's. pools: see
    ipam.Pool. policies: a directory of policies that are put in force before a container is
    attached; empty: those that are in force stay. wait: seconds to wait for another process that
    has the state; a runtime waits longer than the default. hooks: of a datapath that is made here,
    see Datapath.open(); containers come and go, and clsact lets them come fast.
    """

    state: Path = attrs.field(default=Path(STATE), converter=Path)
    pin: str = attrs.field(default="pycilium", converter=_text)
    bpffs: str = attrs.field(default=_BPFFS, converter=_text)
    pools: tuple[Pool, ...] = attrs.field(default=(), converter=_pools)
    policies: str = ""
    wait: float = 30.0
    hooks: str = "clsact"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        """From a network configuration, whose other keys are not looked at. Raises SpecError."""
        known = {one.name for one in attrs.fields(cls)}
        given = {key: value for key, value in config.items() if key in known}
        for key in ("state", "policies"):
            if not isinstance(given.get(key, ""), str):
                raise SpecError(key, given[key], "a path")
        wait = given.get("wait", 0.0)
        if not isinstance(wait, int | float) or not 0 <= wait <= 600:
            raise SpecError("wait", wait, "0 to 600 seconds")
        return cls(**given)

    @property
    def queue(self) -> Queue:
        """Where requests wait while nobody has the node."""
        return Queue(self.state / "queue")


@contextmanager
def opened(settings: Settings) -> Iterator[Network]:
    """Take the node, of which one process at a time has the state; give it back at the end.

    Makes the datapath if there is none. Raises ConflictError where another process has it for
    longer than the settings' wait, and what HostScope.open(), Datapath.open() and adopt() raise.
    """
    from pycilium.ipam import HostScope

    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        HostScope.open(
            settings.pools, path=settings.state / "ipam", wait=settings.wait
        ) as addresses,
        standing_datapath(settings.pin, settings.bpffs, hooks=settings.hooks) as datapath,
    ):
        yield Network(datapath, addresses, queue=settings.queue)


@contextmanager
def for_request(request: Request) -> Iterator[Network]:
    """The node of a request's own configuration; code 11 where another process has it."""
    settings = Settings.of(request.config)
    with ExitStack() as stack:
        try:
            network = stack.enter_context(opened(settings))
        except ConflictError as error:
            if request.command.may_wait:
                raise
            raise CniError(Code.TRY_AGAIN_LATER, "the node is in use", str(error)) from None
        if settings.policies and request.command is Command.ADD:
            apply_policies(network.datapath, settings.policies)
        yield network


def queue_of(request: Request) -> Queue:
    """The queue of a request's own configuration."""
    return Settings.of(request.config).queue


def standing_datapath(pin: str, bpffs: str = _BPFFS, *, hooks: str = "clsact") -> Datapath:
    """The pinned one as it is, or a new one under that name."""
    from pycilium.datapath import Datapath, is_pinned

    if is_pinned(pin, bpffs):
        return Datapath.adopt(pin, bpffs=bpffs)
    return Datapath.open(pin=pin, bpffs=bpffs, hooks=hooks)


def apply_policies(datapath: Datapath, directory: str) -> None:
    """Put what a directory says in force; SpecError, with file and line, leaves what is."""
    from pycilium.policy import PolicySet

    datapath.policies.apply(PolicySet.from_manifests(directory))
