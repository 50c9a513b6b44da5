"""A model hub on 127.0.0.1: what its client asks for when it fetches one repository at a commit."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LARGE = (".safetensors", ".bin")  # what a hub keeps in large-file storage, with its SHA-256


class Hub:
    """One repository: files, the commit they stand at, and branches.

    Attributes:
        asked: paths that were asked for, in order.
        answers_with: commit that the hub claims, whatever was asked.
    """

    def __init__(self, repo: str, folder: Path, commit: str) -> None:
        self.repo = repo
        self.commit = commit
        self.answers_with = commit
        self.files = {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        self.stated = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        self.references = {commit: commit, "main": commit}
        self.asked: list[str] = []
        self.endpoint = ""

    def entries(self) -> list[dict[str, Any]]:
        """The files as the hub's tree lists them."""
        found = []
        for name, data in self.files.items():
            entry: dict[str, Any] = {
                "type": "file", "path": name, "rfilename": name, "size": len(data),
                "oid": self.stated[name][:40], "blobId": self.stated[name][:40],
            }  # fmt: skip
            if name.endswith(LARGE):
                sha = self.stated[name]
                entry["lfs"] = {"sha256": sha, "oid": sha, "size": len(data), "pointerSize": 134}
            found.append(entry)
        return found

    def file_at(self, path: str) -> str | None:
        """Name of the file that ``path`` asks for; None when it asks for none that is here."""
        place = f"/{self.repo}/resolve/"
        reference, _, name = path.removeprefix(place).partition("/")
        there = path.startswith(place) and reference in self.references and name in self.files
        return name if there else None

    def described(self, path: str) -> Any:
        """What the hub's interface says at ``path``: the repository, or its tree."""
        place = f"/api/models/{self.repo}"
        kind, _, reference = path.removeprefix(place).strip("/").partition("/")
        if not path.startswith(place) or (reference or "main") not in self.references:
            return None
        if kind == "tree":
            return self.entries()
        return {"id": self.repo, "sha": self.answers_with, "siblings": self.entries()}


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serves ``hub`` on a free port of 127.0.0.1 until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(path)
            name = hub.file_at(path)
            if name is not None:
                headers = {"X-Repo-Commit": hub.commit, "ETag": f'"{hub.stated[name]}"'}
                self._send(200, headers, hub.files[name])
                return
            body = hub.described(path)
            if body is not None:
                self._send(200, {}, json.dumps(body).encode())
                return
            self._send(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")

        def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
