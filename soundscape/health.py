"""A process's own small HTTP door: `/metrics` for Prometheus and `/healthz` for `soundscape status`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from soundscape.settings import HOST

Health = Callable[[], dict[str, Any]]
"""Says `{"healthy": bool, "why": str, …}` of this process, at once and without waiting for anything."""
Tell = Callable[[str], dict[str, Any] | None]
"""What the process tells of another path, from the door's thread; None for a path that it does not know."""


def serve_health(port: int, health: Health, tell: Tell = lambda _: None) -> None:
    """Serve both paths, and those that the process tells of, on loopback from a daemon thread. Raises OSError if the port is taken."""
    metrics = make_wsgi_app()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")  # PEP 3333: bytes as Latin-1
        if (told := tell(path)) is not None:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(told).encode()]
        if path != "/healthz":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        said = health()
        start_response("200 OK" if said["healthy"] else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps(said).encode()]

    server = make_server(HOST, port, app, ThreadingWSGIServer, handler_class=_Quiet)
    Thread(target=server.serve_forever, name="health", daemon=True).start()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Probes are not news."""
