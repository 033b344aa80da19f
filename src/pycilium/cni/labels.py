# SPDX-License-Identifier: Apache-2.0
"""What the runtime says of a container: its labels, and the addresses that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any

from pycilium.cni.errors import CniError, Code
from pycilium.cni.request import Request
from pycilium.errors import SpecError
from pycilium.model.labels import TRUSTED_KEYS, Label, Labels

_NAME_LABEL = "container"


def labels_of(request: Request) -> Labels:
    """Of the network's `labels`, args.cni.labels, the capability `labels`, and LABELS of CNI_ARGS.

    Of one key the last of these counts. A Kubernetes pod (K8S_POD_NAMESPACE) is in its namespace;
    any other container that has a name (K8S_POD_NAME) has the label container:name. Raises
    SpecError for a key that only the cluster may say.
    """
    found: dict[str, str] = {}
    for source in (
        request.config.get("labels"),
        request.conventions.get("labels"),
        request.runtime("labels"),
        _listed(request.arguments.get("LABELS", "")),
    ):
        found |= _mapping(source)
    return _complete(found, request.arguments)


def addresses_of(request: Request) -> tuple[str, ...]:
    """Addresses that were asked for: by the capability `ips`, args.cni.ips, or IP of CNI_ARGS."""
    asked = request.runtime("ips") or request.conventions.get("ips") or []
    if not asked and request.arguments.get("IP"):
        asked = request.arguments["IP"].split(",")
    try:
        return tuple(str(ip_interface(one).ip) for one in asked)
    except (TypeError, ValueError):
        raise CniError(Code.INVALID_CONFIG, f"ips: {asked!r} are no addresses") from None


def mac_of(request: Request) -> str | None:
    """The MAC address that was asked for: by the capability `mac`, or MAC of CNI_ARGS."""
    found: str | None = request.runtime("mac") or request.arguments.get("MAC") or None
    return found


def _complete(found: dict[str, str], arguments: Mapping[str, str]) -> Labels:
    namespace, name = arguments.get("K8S_POD_NAMESPACE"), arguments.get("K8S_POD_NAME")
    if namespace:
        return Labels.of_pod(found, namespace)
    for key in found:
        if key.startswith(TRUSTED_KEYS):
            raise SpecError("labels", key, "a key that is not the cluster's own")
    known = Labels.of(found)
    return known | Labels((Label(_NAME_LABEL, "name", name),)) if name else known


def _listed(text: str) -> dict[str, str]:
    return dict(_pair(part) for part in filter(None, text.split(",")))


def _pair(part: str) -> tuple[str, str]:
    key, _, value = part.partition("=")
    return key, value


def _mapping(source: Any) -> dict[str, str]:
    """A mapping, or a list of objects with key and value."""
    if source is None:
        return {}
    try:
        pairs = source.items() if isinstance(source, dict) else _entries(source)
        return {str(key): str(value) for key, value in pairs}
    except (AttributeError, KeyError, TypeError):
        raise SpecError(
            "labels", source, 'an object, or a list of {"key": …, "value": …}'
        ) from None


def _entries(source: Any) -> list[tuple[Any, Any]]:
    return [(one["key"], one.get("value", "")) for one in source]
