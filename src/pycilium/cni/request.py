# SPDX-License-Identifier: Apache-2.0
"""A call of a runtime as a value: what stands in the environment and on standard input."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from typing import Any

import attrs

from pycilium.cni.errors import CniError, Code
from pycilium.cni.result import Result
from pycilium.cni.versions import LATEST, SUPPORTED, number

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_KUBERNETES = (
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_UID",
    "K8S_POD_INFRA_CONTAINER_ID",
)
_ARGUMENTS = ("IgnoreUnknown", "IP", "MAC", "LABELS", *_KUBERNETES)
_MAX_CONFIG = 1 << 20  # bytes


class Command(enum.Enum):
    """The six commands of CNI 1.1."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    STATUS = "STATUS"
    GC = "GC"
    VERSION = "VERSION"

    @property
    def concerns_a_container(self) -> bool:
        """Whether it names one, and not only a network."""
        return self in (Command.ADD, Command.DEL, Command.CHECK)

    @property
    def may_wait(self) -> bool:
        """Whether it can be done later as well as now: nobody waits for its answer."""
        return self in (Command.DEL, Command.GC)


@attrs.frozen(kw_only=True)
class Request:
    """One call. `netns` is None where the namespace is gone; `config` is the network's."""

    command: Command
    version: str = LATEST
    network: str = ""
    container: str = ""
    netns: str | None = None
    ifname: str = ""
    arguments: Mapping[str, str] = attrs.field(factory=dict)
    config: Mapping[str, Any] = attrs.field(factory=dict, repr=False)

    @classmethod
    def parse(cls, environment: Mapping[str, str], text: bytes) -> Request:
        """From CNI_… variables and the configuration's JSON. Raises CniError."""
        command = _command(environment)
        config = _config(text)
        version = _version(config)
        if command is Command.VERSION:
            return cls(command=command, version=version, config=config)
        arguments = _arguments(environment.get("CNI_ARGS", ""))
        made = cls(
            command=command,
            version=version,
            network=_name("name", config.get("name"), Code.INVALID_CONFIG),
            arguments=arguments,
            config=config,
        )
        return made._for_container(environment) if command.concerns_a_container else made

    @property
    def owner(self) -> str:
        """The attachment's name: of its endpoint, and of the owner of its addresses."""
        return f"{self.network}/{self.container}/{self.ifname}"

    @property
    def previous(self) -> Result | None:
        """What came before: of the plugin before this one, or of the ADD. Raises CniError."""
        found = self.config.get("prevResult")
        return None if found is None else Result.parse(found)

    @property
    def attachments(self) -> frozenset[str] | None:
        """The owners that GC is to keep; None where the configuration has no such list."""
        for key in ("cni.dev/valid-attachments", "cni.dev/attachments"):
            if isinstance(self.config.get(key), list):
                return frozenset(_attachment(self.network, one) for one in self.config[key])
        return None

    def runtime(self, capability: str) -> Any:
        """What the runtime says for a capability that the configuration asks for; else None."""
        found = self.config.get("runtimeConfig")
        return found.get(capability) if isinstance(found, dict) else None

    @property
    def conventions(self) -> Mapping[str, Any]:
        """args.cni of the configuration."""
        found = self.config.get("args")
        found = found.get("cni") if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _for_container(self, environment: Mapping[str, str]) -> Request:
        netns = environment.get("CNI_NETNS") or None
        if netns is None and self.command is not Command.DEL:
            raise _invalid("CNI_NETNS", "", "the path of a network namespace")
        return attrs.evolve(
            self,
            container=_name("CNI_CONTAINERID", environment.get("CNI_CONTAINERID")),
            ifname=_ifname(environment.get("CNI_IFNAME", "")),
            netns=netns,
        )


def _command(environment: Mapping[str, str]) -> Command:
    given = environment.get("CNI_COMMAND", "")
    try:
        return Command(given)
    except ValueError:
        raise _invalid(
            "CNI_COMMAND", given, f"one of {', '.join(c.value for c in Command)}"
        ) from None


def _config(text: bytes) -> dict[str, Any]:
    if len(text) > _MAX_CONFIG:
        raise CniError(Code.UNDECODABLE, "the network configuration is larger than 1 MiB")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CniError(
            Code.UNDECODABLE, "the network configuration is no JSON", str(error)
        ) from None
    if not isinstance(config, dict):
        raise CniError(Code.UNDECODABLE, "the network configuration is no JSON object")
    return config


def _version(config: Mapping[str, Any]) -> str:
    version = config.get("cniVersion", "")
    if version not in SUPPORTED:
        known = ", ".join(SUPPORTED)
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"CNI version {version!r} is not supported",
            f"the configuration's cniVersion must be one of {known}",
        )
    return str(version)


def require_version(request: Request) -> None:
    """CHECK came with 0.4.0, GC and STATUS with 1.1.0; CniError for a call before its time."""
    since = {Command.CHECK: "0.4.0", Command.GC: "1.1.0", Command.STATUS: "1.1.0"}
    first = since.get(request.command)
    if first is not None and number(request.version) < number(first):
        raise CniError(
            Code.INCOMPATIBLE_VERSION,
            f"{request.command.value} is not a command of CNI {request.version}",
            f"it came with {first}",
        )


def _arguments(text: str) -> dict[str, str]:
    """CNI_ARGS; what is unknown is refused unless IgnoreUnknown says otherwise."""
    found = {}
    for part in filter(None, text.split(";")):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise _invalid("CNI_ARGS", text, "KEY=VALUE;KEY=VALUE")
        found[key] = value
    if found.get("IgnoreUnknown", "").lower() not in ("1", "true"):
        for key in found:
            if key not in _ARGUMENTS:
                raise _invalid("CNI_ARGS", key, f"one of {', '.join(_ARGUMENTS)}")
    return found


def _name(field: str, value: object, code: Code = Code.INVALID_ENVIRONMENT) -> str:
    if not isinstance(value, str) or len(value) > 100 or not _NAME.fullmatch(value):
        allowed = "a letter or digit, then letters, digits, _, . and -; 100 at most"
        raise _invalid(field, value, allowed, code)
    return value


def _ifname(value: str) -> str:
    fits = 0 < len(value.encode()) < 16 and value.isprintable() and value.split() == [value]
    if not fits or value in (".", "..") or "/" in value or ":" in value:
        raise _invalid("CNI_IFNAME", value, "an interface's name")
    return value


def _attachment(network: str, one: object) -> str:
    if not isinstance(one, dict):
        raise CniError(Code.INVALID_CONFIG, "cni.dev/valid-attachments: not a list of objects")
    return f"{network}/{one.get('containerID')}/{one.get('ifname')}"


def _invalid(
    field: str, value: object, allowed: str, code: Code = Code.INVALID_ENVIRONMENT
) -> CniError:
    return CniError(code, f"{field}: {str(value)[:80]!r} is not allowed", f"expected {allowed}")
