"""As much of a Weights & Biases server as the tests of tracking need."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class FakeWandb(BaseHTTPRequestHandler):
    """As much of W&B's protocol as one run uses; keeps the rows it is sent."""

    rows: ClassVar[list[dict[str, Any]]] = []
    posts: ClassVar[list[str]] = []
    fault: ClassVar[str] = ""  # "slow" or "rejects"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        text = (gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body).decode()
        self.posts.append(text)
        if self.fault == "slow":
            time.sleep(60)
        if self.fault == "rejects":
            self.send_error(401)
            return
        if self.path.endswith("/graphql"):
            self.answer({"data": self.graphql(json.loads(text))})
            return
        if "/file_stream" in self.path:
            lines = json.loads(text).get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.rows.extend(json.loads(line) for line in lines)
        self.answer({})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer({})

    def graphql(self, call: dict[str, Any]) -> dict[str, Any]:
        name, sent = call.get("operationName") or call["query"], call.get("variables", {})
        entity = {"id": "e", "name": "team"}
        project = {"id": "p", "name": sent.get("project"), "internalId": "1", "entity": entity}
        if "RunResumeStatus" in name:
            return {"model": project | {"bucket": None}}
        if "UpsertBucket" in name:
            bucket = {"id": "b", "name": sent.get("name"), "displayName": "demo", "config": "{}", "project": project}
            return {"upsertBucket": {"bucket": bucket | {"sweepName": "", "historyLineCount": 0}, "inserted": True}}
        if "CreateRunFiles" in name:
            files = [{"name": f, "uploadUrl": f"http://{self.headers['host']}/up"} for f in sent.get("files", [])]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {"serverInfo": {"features": []}} if "ServerFeatures" in name else {}

    def answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is what the tests are about."""


class Server:
    """`FakeWandb` on a port of its own, until it is closed."""

    def __init__(self) -> None:
        FakeWandb.rows, FakeWandb.posts, FakeWandb.fault = [], [], ""
        self._http = _Quiet(("127.0.0.1", 0), FakeWandb)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def fail(self, fault: str) -> None:
        """From here on: "gone" (nothing listens), "slow" or "rejects"."""
        FakeWandb.fault = fault
        if fault == "gone":
            self.close()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def fake_wandb() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()
