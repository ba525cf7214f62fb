"""A stand-in for the Hugging Face Hub: as much of its HTTP interface as sharing needs, for one repository in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPOSITORY = "somebody/mazes"
COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Files by name, and what was seen."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, object]] = []
        self.tokens: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers["Authorization"])
        path = urlsplit(self.path).path
        if path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.url}/{REPOSITORY}"})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif path == f"/api/models/{REPOSITORY}/preupload/main":
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{"path": one["path"], **modes} for one in json.loads(body)["files"]]})
        elif path == f"/api/models/{REPOSITORY}/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{self.server.url}/{REPOSITORY}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        self.server.tokens.add(self.headers["Authorization"])
        path = unquote(urlsplit(self.path).path)
        if path in (f"/api/models/{REPOSITORY}", f"/api/models/{REPOSITORY}/revision/main"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.server.files.items()]
            self.answer({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings})
        elif path.startswith(f"/{REPOSITORY}/resolve/{COMMIT}/"):
            content = self.server.files[path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")]
            self.answer(content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def answer(self, content: object, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


@contextmanager
def serving() -> Iterator[Hub]:
    """The stand-in, answering inside the block."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
