# SPDX-License-Identifier: Apache-2.0
"""Real clients inside the pods: HTTP requests, and one connection that is watched."""

from __future__ import annotations

import http.client
import threading
import time

import attrs

from pycilium.datapath import Endpoint


@attrs.frozen
class Answer:
    """What a client saw: the backend's name, or why there was none."""

    reached: bool
    text: str
    seconds: float


def get(client: Endpoint, host: str, port: int, *, timeout: float = 0.4) -> Answer:
    """One HTTP request on a connection of its own, from inside the client's namespace."""
    return client.run(_get, host, port, timeout)


def _get(host: str, port: int, timeout: float) -> Answer:
    started = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", "/")
        text = connection.getresponse().read().decode()
        return Answer(True, text, time.monotonic() - started)
    except OSError as error:
        return Answer(False, type(error).__name__, time.monotonic() - started)
    finally:
        connection.close()


class Stream:
    """Requests without a pause on one open connection, until it goes quiet."""

    def __init__(self, client: Endpoint, host: str, port: int) -> None:
        self._client = client
        self._target = (host, port)
        self._answers: list[float] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: client.run(self._talk), daemon=True)

    def __enter__(self) -> Stream:
        self._thread.start()
        self._started.wait(5)
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.join(10)

    @property
    def last_answer(self) -> float:
        """time.monotonic() of the last answer that came through."""
        return self._answers[-1]

    def __len__(self) -> int:
        return len(self._answers)

    def _talk(self) -> None:
        connection = http.client.HTTPConnection(*self._target, timeout=0.5)
        deadline = time.monotonic() + 5
        try:
            while time.monotonic() < deadline:
                connection.request("GET", "/")
                connection.getresponse().read()
                self._answers.append(time.monotonic())
                if len(self._answers) == 10:
                    self._started.set()
        except OSError:
            return
        finally:
            self._started.set()
            connection.close()
