"""The part of the Hugging Face hub that fetching and pushing models needs, over real HTTP.

huggingface_hub itself talks to it, by HF_ENDPOINT. Routes, headers and error codes are those that
its client reads: create, validate-yaml, preupload, LFS batch and upload, commit, branches; info,
tree, and resolve, which sends large files on to another address as the hub does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITER, READER = "hf_writer", "hf_reader"
# As the hub's .gitattributes; other files are LFS from this size on.
_LFS_NAMES = (".onnx", ".npz")
_LFS_BYTES = 4096


@dataclass
class Repository:
    """A model's repository.

    Attributes:
        private: Only with a token.
        gated: Anybody sees what is there; nobody here may read it.
        commits: Files by name, by commit.
        branches: Commits by branch.
    """

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Adds files to a branch.

        Returns:
            The commit.
        """
        parent = self.branches.get(branch, "")
        after = {**self.commits.get(parent, {}), **files}
        content = json.dumps({name: _sha256(data) for name, data in sorted(after.items())})
        name = hashlib.sha1(f"{parent}{branch}{content}".encode()).hexdigest()
        self.commits[name] = after
        self.branches[branch] = name
        return name

    def find(self, revision: str) -> str | None:
        """The commit that a revision names."""
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class Hub:
    """A hub that runs.

    Attributes:
        url: Its address.
        store: The address of its store of large files, which is another host for its client.
        repositories: By OWNER/NAME.
        objects: Large files by sha256.
        requests: What was asked for: method and path.
    """

    url: str = ""
    store: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def environment(self, home: Path, token: str | None = None, **more: str) -> dict[str, str]:
        """The environment of a process that uses this hub, with a cache of its own."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        settings = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",  # Another protocol, whose server this isn't.
            "NO_PROXY": "127.0.0.1,localhost",
        }
        return kept | settings | ({"HF_TOKEN": token} if token else {}) | more


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub on a free port of this machine, while the block runs."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    hub.store = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _RefusalError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, method: str) -> None:
        size = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(size)
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{method} {path}")
        try:
            for methods, pattern, answer in _ROUTES:
                found = re.fullmatch(pattern, path)
                if found and method in methods:
                    answer(self, *found.groups())
                    return
            raise _RefusalError(404)
        except _RefusalError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            body = json.dumps({"error": refused.message}).encode()
            self._send(refused.status, body, {k: v for k, v in headers.items() if v})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        headers = {"Content-Type": "application/json"}
        self._send(status, json.dumps(value).encode(), headers)

    @property
    def _token(self) -> str | None:
        sent = self.headers.get("Authorization")
        token = sent.removeprefix("Bearer ") if sent else None
        if token not in (None, WRITER, READER):
            raise _RefusalError(401, message="Invalid credentials in Authorization header")
        return token

    def _writing(self) -> None:
        if self._token is None:
            raise _RefusalError(401, message="Invalid username or password.")
        if self._token != WRITER:
            raise _RefusalError(403, message="this token may only read")

    def _repository(self, name: str) -> Repository:
        found = self.hub.repositories.get(name)
        token = self._token
        if found is None or (found.private and token is None):
            # Strangers aren't told which repositories there are.
            raise _RefusalError(404 if token else 401, "RepoNotFound", "Repository not found")
        return found

    def _commit_of(self, name: str, revision: str) -> tuple[Repository, str]:
        repository = self._repository(name)
        commit = repository.find(revision)
        if commit is None:
            raise _RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def _create(self) -> None:
        self._writing()
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            message = "You already created this model repo"
            self._json({"error": message, "url": f"{self.hub.url}/{name}"}, 409)
            return
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repository = self.hub.repositories[name] = Repository(private)
        repository.commit({".gitattributes": b"*.onnx filter=lfs\n"})
        self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": "1"})

    def _validate(self) -> None:
        content = json.loads(self.body)["content"]
        found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        try:
            valid = found is not None and isinstance(yaml.safe_load(found[1]), dict)
        except yaml.YAMLError:
            valid = False
        errors = [] if valid else [{"message": "no metadata"}]
        self._json({"errors": errors, "warnings": []}, 200 if valid else 400)

    def _preupload(self, name: str, revision: str) -> None:
        self._writing()
        repository, commit = self._commit_of(name, revision)
        there = repository.commits[commit]

        def answer(file: dict[str, Any]) -> dict[str, Any]:
            path = file["path"]
            large = path.endswith(_LFS_NAMES) or file["size"] >= _LFS_BYTES
            oid = None
            if path in there:
                oid = _sha256(there[path]) if large else _git_blob(there[path])
            mode = "lfs" if large else "regular"
            return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

        self._json({"files": [answer(file) for file in json.loads(self.body)["files"]]})

    def _batch(self, name: str) -> None:
        self._writing()
        self._repository(name)

        def answer(item: dict[str, Any]) -> dict[str, Any]:
            oid = item["oid"]
            if oid in self.hub.objects:
                return item
            actions = {
                "upload": {"href": f"{self.hub.store}/objects/{oid}"},
                "verify": {"href": f"{self.hub.url}/verify"},
            }
            return item | {"actions": actions}

        objects = [answer(item) for item in json.loads(self.body)["objects"]]
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, oid: str) -> None:
        if _sha256(self.body) != oid:
            raise _RefusalError(400, message="these bytes have another digest")
        self.hub.objects[oid] = self.body
        self._send(200, b"", {})

    def _verify(self) -> None:
        asked = json.loads(self.body)
        stored = self.hub.objects.get(asked["oid"], b"")
        self._send(200 if len(stored) == asked["size"] else 404, b"", {})

    def _branch(self, name: str, branch: str) -> None:
        self._writing()
        repository = self._repository(name)
        if branch in repository.branches:
            raise _RefusalError(409, message="Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._json({})

    def _commit(self, name: str, branch: str) -> None:
        self._writing()
        repository, _ = self._commit_of(name, branch)
        files = {}
        for line in self.body.splitlines():
            value = json.loads(line)["value"]
            match json.loads(line)["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.objects[value["oid"]]
                case "header":
                    pass
                case other:
                    raise _RefusalError(400, message=f"{other} isn't known here")
        oid = repository.commit(files, branch)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{name}/commit/{oid}"})

    def _info(self, name: str, revision: str | None) -> None:
        repository, commit = self._commit_of(name, revision or "main")
        facts = {"id": name, "modelId": name, "sha": commit, "private": repository.private}
        names = [{"rfilename": file} for file in repository.commits[commit]]
        self._json(facts | {"gated": repository.gated, "tags": [], "siblings": names})

    def _tree(self, name: str, revision: str) -> None:
        assert parse_qs(urlsplit(self.path).query)["recursive"][0].lower() == "true"
        repository, commit = self._commit_of(name, revision)
        self._json([_entry(*item) for item in repository.commits[commit].items()])

    def _resolve(self, name: str, revision: str, file: str) -> None:
        repository, commit = self._commit_of(name, revision)
        if repository.gated:
            raise _RefusalError(403, "GatedRepo", f"Access to model {name} is restricted")
        content = repository.commits[commit].get(file)
        if content is None:
            raise _RefusalError(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git_blob(content)}"'}
        if "lfs" not in _entry(file, content):
            self._send(200, content, headers)
            return
        oid = _sha256(content)
        self.hub.objects[oid] = content
        linked = {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        self._send(302, b"", headers | linked | {"Location": f"{self.hub.store}/objects/{oid}"})

    def _object(self, oid: str) -> None:
        self._send(200, self.hub.objects[oid], {"ETag": f'"{oid}"'})


def _entry(name: str, content: bytes) -> dict[str, Any]:
    facts = {"type": "file", "path": name, "size": len(content), "oid": _git_blob(content)}
    if not name.endswith(_LFS_NAMES) and len(content) < _LFS_BYTES:
        return facts
    return facts | {"lfs": {"oid": _sha256(content), "size": len(content), "pointerSize": 130}}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_NAME = r"([^/]+/[^/]+)"
# Only main and refs/… are known by names with slashes; commits and branches here have none.
_REVISION = r"([^/]+|refs/pr/\d+)"
_ROUTES = (
    (("POST",), "/api/repos/create", _Handler._create),
    (("POST",), "/api/validate-yaml", _Handler._validate),
    (("POST",), f"/api/models/{_NAME}/preupload/{_REVISION}", _Handler._preupload),
    (("POST",), f"/api/models/{_NAME}/commit/{_REVISION}", _Handler._commit),
    (("POST",), f"/api/models/{_NAME}/branch/{_REVISION}", _Handler._branch),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler._batch),
    (("PUT",), "/objects/([0-9a-f]{64})", _Handler._upload),
    (("GET", "HEAD"), "/objects/([0-9a-f]{64})", _Handler._object),
    (("POST",), "/verify", _Handler._verify),
    (("GET",), f"/api/models/{_NAME}(?:/revision/{_REVISION})?", _Handler._info),
    (("GET",), f"/api/models/{_NAME}/tree/{_REVISION}", _Handler._tree),
    (("GET", "HEAD"), f"/{_NAME}/resolve/{_REVISION}/(.+)", _Handler._resolve),
)
