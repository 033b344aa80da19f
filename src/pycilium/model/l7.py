# SPDX-License-Identifier: Apache-2.0
"""What a proxy has to look at: HTTP requests and DNS questions."""

from __future__ import annotations

import attrs


@attrs.frozen
class HeaderMatch:
    """A header; on a mismatch (None: the request does not match) LOG, ADD, DELETE or REPLACE."""

    name: str
    value: str = ""
    mismatch: str | None = None


@attrs.frozen
class HttpRule:
    """One kind of request; path, method and host are RE2 expressions, None is any."""

    path: str | None = None
    method: str | None = None
    host: str | None = None
    headers: tuple[HeaderMatch, ...] = ()

    def __str__(self) -> str:
        text = " ".join(one for one in (self.method, self.host, self.path) if one)
        headers = ",".join(one.name for one in self.headers)
        return " ".join(one for one in (text or "any request", headers) if one)


@attrs.frozen
class DnsRule:
    """Questions for a name, or for names that a pattern matches."""

    pattern: str

    def __str__(self) -> str:
        return self.pattern


@attrs.frozen
class L7Rules:
    """What is allowed above L4; a request passes that one of them matches."""

    http: tuple[HttpRule, ...] = ()
    dns: tuple[DnsRule, ...] = ()

    def __or__(self, other: L7Rules) -> L7Rules:
        return L7Rules(
            tuple(dict.fromkeys((*self.http, *other.http))),
            tuple(dict.fromkeys((*self.dns, *other.dns))),
        )

    def __str__(self) -> str:
        parts = [f"HTTP {one}" for one in self.http] + [f"DNS {one}" for one in self.dns]
        return ", ".join(parts)
