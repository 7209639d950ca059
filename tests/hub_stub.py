"""A Hugging Face hub on loopback, with just what its client needs to make, fill, list and read a repository of models.

Every file is sent inside the commit: no large-file storage, branches or histories.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub(ThreadingHTTPServer):
    """`requests`: what was asked, as (method, path), for tests to look at; `messages`: of the commits."""

    def __init__(self, root: Path, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.token = root, token
        self.requests: list[tuple[str, str]] = []
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, repo: str) -> dict[str, bytes]:
        folder = self.root / repo
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }


@contextmanager
def running_hub(root: Path, token: str) -> Iterator[Hub]:
    hub = Hub(root, token)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        self.server.requests.append(("POST", path))
        parts = path.strip("/").split("/")
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            return self._json({"error": "Invalid username or password."}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        repo, verb = "/".join(parts[2:4]), parts[4]
        if not repo.startswith("me/"):
            return self._json({"error": "Forbidden"}, 403)
        if verb == "preupload":
            wanted = json.loads(body)["files"]
            return self._json(
                {"files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in wanted]}
            )
        return self._commit(repo, [json.loads(line) for line in body.splitlines()])

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path))
        parts = path.strip("/").split("/")
        repo = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if not (self.server.root / repo).is_dir():
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = self.server.files(repo)
        if parts[0] != "api":  # USER/REPO/resolve/REVISION/FILE
            return self._file(repo, files.get("/".join(parts[4:])))
        if parts[4:5] == ["tree"]:
            return self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": _digest(data)}
                    for name, data in files.items()
                ]
            )
        return self._json(
            {"id": repo, "sha": self._commit_id(repo), "siblings": [{"rfilename": name} for name in files]}
        )

    do_HEAD = do_GET

    def _create(self, wanted: dict[str, Any]) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}"
        if wanted["organization"] != "me":
            return self._json({"error": "You don't have the rights to create a model under this namespace"}, 403)
        folder = self.server.root / repo
        if folder.is_dir():
            return self._json({"error": "You already created this model repo", "url": f"{self.server.url}/{repo}"}, 409)
        folder.mkdir(parents=True)
        self.server.private[repo] = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        return self._json({"url": f"{self.server.url}/{repo}", "name": repo})

    def _commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        folder = self.server.root / repo
        for line in lines:
            name = folder / line["value"].get("path", "")
            if line["key"] == "header":
                self.server.messages.append(line["value"]["summary"])
            elif line["key"] == "file":
                name.parent.mkdir(parents=True, exist_ok=True)
                name.write_bytes(base64.b64decode(line["value"]["content"]))
            elif line["key"] == "deletedFolder":
                shutil.rmtree(name)
        self._json(
            {
                "commitUrl": f"{self.server.url}/{repo}/commit/{self._commit_id(repo)}",
                "commitOid": self._commit_id(repo),
            }
        )

    def _commit_id(self, repo: str) -> str:
        return _digest(b"".join(name.encode() + data for name, data in self.server.files(repo).items()))

    def _file(self, repo: str, data: bytes | None) -> None:
        if data is None:
            return self._json(
                {"error": "Entry not found"},
                404,
                {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self._commit_id(repo)},
            )
        self._send(
            200,
            data,
            {
                "X-Repo-Commit": self._commit_id(repo),
                "ETag": f'"{_digest(data)}"',
                "Content-Type": "application/octet-stream",
            },
        )

    def _json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()
