"""A real S3 interface on loopback, with knobs: it can be slow, busy, or not know who asks."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

KEY = "INSPECTOR7EXAMPLE0"
SECRET = "no-more-than-an-example/secret"  # a password for nothing
BUCKET = "inspections"

_CHANGING = frozenset({"PUT", "POST", "DELETE"})
_CREDENTIAL = re.compile(r"Credential=([^/]+)/")


def _every(_method: str, _path: str) -> bool:
    return True


@dataclass
class ObjectStore:
    """moto's S3 behind what S3 itself does and moto does not.

    Attributes:
        endpoint: Its address.
        latency: Seconds before every answer. Who waits when it is changed is taken for gone: nothing is done.
        busy: How many of the next requests that `is_hit` are answered with 503 SlowDown.
        is_hit: Which requests, by method and path.
        requests: How often which method asked.
        reads: Paths of the objects that were read.
        refused: How many requests were answered with 503.
        changes: How many requests have changed something.
        last_change: After so many of them nobody gets anything any more, as if he had died; None: never.
    """

    endpoint: str = ""
    latency: float = 0.0
    busy: int = 0
    is_hit: Callable[[str, str], bool] = field(default=_every)
    requests: Counter[str] = field(default_factory=Counter)
    reads: list[str] = field(default_factory=list)
    refused: int = 0
    changes: int = 0
    last_change: int | None = None
    _conditional: threading.Lock = field(default_factory=threading.Lock)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Behave well again, forget who asked and what was kept."""
        self.latency, self.busy, self.refused, self.is_hit = 0.0, 0, 0, _every
        self.changes, self.last_change = 0, None
        self.requests.clear()
        self.reads.clear()
        _make_bucket()

    def put(self, key: str, content: bytes = b"x") -> None:
        """Store an object under any key: pyarrow refuses those with `//`."""
        _backend().put_object(BUCKET, key, content)

    def _waited(self) -> bool:
        """Wait as long as an answer takes; whether it was waited for to the end."""
        latency, end = self.latency, time.monotonic() + self.latency
        while (left := end - time.monotonic()) > 0 and self.latency == latency:
            time.sleep(min(left, 0.05))
        return left <= 0

    def environment(self) -> dict[str, str]:
        """What the tools of AWS read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "eu-central-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def behaving(self, app: Any) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
        """Wrap moto's application."""

        def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            waited = self._waited()
            may_hit = self.busy > 0 and self.is_hit(method, path)
            with self._counting:
                self.requests[method] += 1
                if method == "GET" and path.count("/") > 1 and path[-1] != "/":
                    self.reads.append(path)
                hit = may_hit and self.busy > 0
                self.busy -= hit
                self.refused += hit
                dead = self.changes == self.last_change or not waited
                self.changes += method in _CHANGING and not hit and not dead
            if dead:
                return _refuse(start, "403 Forbidden", "AccessDenied", "Access Denied")
            if hit:
                return _refuse(start, "503 Slow Down", "SlowDown", "Please reduce your request rate.")
            asking = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
            if asking is None:
                return _refuse(start, "403 Forbidden", "AccessDenied", "Access Denied")
            if asking[1] != KEY:
                message = "The AWS Access Key Id you provided does not exist in our records."
                return _refuse(start, "403 Forbidden", "InvalidAccessKeyId", message)
            if method == "PUT" and "HTTP_IF_NONE_MATCH" in environ:
                with self._conditional:  # moto looks, and then writes
                    return [b"".join(app(environ, start))]
            return app(environ, start)  # type: ignore[no-any-return]

        return answer


def _refuse(start: StartResponse, status: str, code: str, message: str) -> Iterable[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _backend() -> Any:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def _make_bucket() -> None:
    backend = _backend()
    backend.reset()
    backend.create_bucket(BUCKET, "eu-central-1")


@contextmanager
def serve() -> Iterator[ObjectStore]:
    """Serve a store with one empty bucket."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_: object) -> None:
            pass

    store = ObjectStore()
    app = store.behaving(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    store.endpoint = f"http://127.0.0.1:{server.port}"
    _make_bucket()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
