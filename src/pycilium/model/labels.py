# SPDX-License-Identifier: Apache-2.0
"""Labels: source:key=value, the raw material of identity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from pycilium.errors import SpecError

DEFAULT_SOURCE = "k8s"
RESERVED_SOURCES = frozenset({"reserved", "cidr", "fqdn", "port"})
NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"
NAMESPACE_NAME_KEY = "kubernetes.io/metadata.name"
TRUSTED_KEYS = ("io.kubernetes.", "io.cilium.")


@attrs.frozen(order=True)
class Label:
    """One label; the value may be empty."""

    source: str
    key: str
    value: str = ""

    def __str__(self) -> str:
        source = "" if self.source == DEFAULT_SOURCE else f"{self.source}:"
        return f"{source}{self.key}" + (f"={self.value}" if self.value else "")


@attrs.frozen(cache_hash=True)
class Labels:
    """A set of labels, in a fixed order."""

    items: tuple[Label, ...] = ()

    @classmethod
    def of(cls, labels: Labels | Mapping[str, str] | str) -> Labels:
        """From what a user gives: reserved sources are refused (they are not the user's to say).

        Named ports come through of_pod() only. Raises SpecError.
        """
        made = isinstance(labels, Labels)
        found = labels if isinstance(labels, Labels) else cls._read(labels)
        for label in found:
            if label.source in RESERVED_SOURCES and not (made and label.source == "port"):
                raise SpecError("labels", str(label), f"a source other than {label.source}")
        return found

    @classmethod
    def of_pod(
        cls,
        labels: Mapping[str, str],
        namespace: str,
        *,
        namespace_labels: Mapping[str, str] | None = None,
        service_account: str | None = None,
        named_ports: Mapping[str, tuple[str, int]] | None = None,
    ) -> Labels:
        """Of a pod: its own labels, and what the cluster says of it, which they cannot forge.

        named_ports: name to (protocol, number). Raises SpecError for a label of the pod's that
        claims a key of the cluster's.
        """
        for key in labels:
            if ":" in key or key.startswith(TRUSTED_KEYS):
                raise SpecError("labels", key, "a key that is not the cluster's own")
        around = {NAMESPACE_NAME_KEY: namespace, **(namespace_labels or {})}
        found = {**labels, NAMESPACE_KEY: namespace}
        found |= {NAMESPACE_LABELS + key: value for key, value in around.items()}
        if service_account is not None:
            found[SERVICE_ACCOUNT_KEY] = service_account
        ports = [
            Label("port", name, f"{number}/{protocol.lower()}")
            for name, (protocol, number) in (named_ports or {}).items()
        ]
        return cls.make((*cls._read(found), *ports))

    @classmethod
    def parse(cls, text: str) -> Labels:
        """From "app=web,reserved:host", reserved sources included."""
        return cls._read(text)

    @classmethod
    def make(cls, labels: Iterable[Label]) -> Labels:
        """Sorted; of one source and key the last counts."""
        unique = {
            (label.source, label.key, label.value if _many(label) else ""): label
            for label in labels
        }
        return cls(tuple(label for _, label in sorted(unique.items())))

    @classmethod
    def _read(cls, labels: Mapping[str, str] | str) -> Labels:
        if isinstance(labels, str):
            return cls.make(_label(part) for part in labels.split(",") if part.strip())
        if not isinstance(labels, Mapping):
            raise SpecError("labels", labels, 'a mapping or text as in "app=web,tier=db"')
        return cls.make(_label_of(key, value) for key, value in labels.items())

    def __iter__(self) -> Iterator[Label]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __contains__(self, label: object) -> bool:
        return label in self.items

    def __or__(self, other: Labels) -> Labels:
        return Labels.make((*self.items, *other.items))

    def values_of(self, key: str) -> tuple[str, ...]:
        """Values of a key; "source:key" asks for one source, a bare key for any user's."""
        source, name = split_key(key)
        if source is not None:
            return tuple(x.value for x in self.items if x.key == name and x.source == source)
        return tuple(
            x.value for x in self.items if x.key == name and x.source not in RESERVED_SOURCES
        )

    @property
    def namespace(self) -> str | None:
        """The Kubernetes namespace, where there is one."""
        found = self.values_of(NAMESPACE_KEY)
        return found[0] if found else None

    def __str__(self) -> str:
        return ",".join(str(label) for label in self.items)


def split_key(key: str) -> tuple[str | None, str]:
    """ "k8s:app" to ("k8s", "app"), "app" to (None, "app")."""
    source, colon, name = key.partition(":")
    return (source, name) if colon else (None, key)


def _many(label: Label) -> bool:
    return label.source in RESERVED_SOURCES


def _label(text: str) -> Label:
    key, _, value = text.strip().partition("=")
    return _label_of(key.strip(), value.strip())


def _label_of(key: object, value: object) -> Label:
    if not isinstance(key, str) or not isinstance(value, str):
        raise SpecError("labels", {key: value}, "keys and values that are text")
    source, name = split_key(key)
    if source == "cidr":  # the value of such a label is its key: a prefix has colons
        source, name = "cidr", key.removeprefix("cidr:")
    if not name or any(c.isspace() or c in ",=" for c in name + value):
        raise SpecError("labels", f"{key}={value}", "key=value without space, comma or second =")
    return Label(source or DEFAULT_SOURCE, name, value)
