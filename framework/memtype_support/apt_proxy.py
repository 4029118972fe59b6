"""An HTTP proxy for apt that hands everything on but packages, with which it does what a test wants."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Spoil = Callable[[BaseHTTPRequestHandler], None]
"""Answers a request for a package."""

_SECONDS = 60


class AptProxy:
    """:ivar url: For http_proxy. :ivar spoilt: How many requests for packages came."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spoilt = 0


@contextmanager
def apt_proxy(spoil: Spoil) -> Iterator[AptProxy]:
    """A proxy on a port that the operating system picks, until the end of the block."""
    # Made before the test points http_proxy at this very proxy.
    opener = urllib.request.build_opener()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".deb"):
                proxy.spoilt += 1
                spoil(self)
                return
            request = urllib.request.Request(self.path)
            for name in ("Range", "If-Range", "If-Modified-Since"):
                if name in self.headers:
                    request.add_header(name, self.headers[name])
            try:
                with opener.open(request, timeout=_SECONDS) as answer:
                    status, headers, data = answer.status, answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                status, headers, data = error.code, error.headers, error.read()
            self.send_response(status)
            for name in ("Last-Modified", "Content-Type", "Content-Range"):
                if name in headers:
                    self.send_header(name, headers[name])
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = AptProxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
