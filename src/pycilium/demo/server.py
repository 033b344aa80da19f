# SPDX-License-Identifier: Apache-2.0
"""A backend: answers each HTTP request with its own name."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    """GET anything: the backend's name."""

    protocol_version = "HTTP/1.1"
    name = "?"

    def do_GET(self) -> None:
        """Answer with the name."""
        body = self.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - theirs
        """Say nothing: the demo prints what matters."""


def main() -> None:
    """Serve on port 8080 until standard input closes, which it does with the demo."""
    Hello.name = sys.argv[1]
    server = ThreadingHTTPServer(("0.0.0.0", 8080), Hello)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
