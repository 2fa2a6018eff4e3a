"""A small Hub on 127.0.0.1 that the real `huggingface_hub` client talks to, with faults on request.

It speaks what the client speaks: create a repository, preupload, git LFS, commit, tree, revision info, resolve; a
Space's variables. A private repository is hidden from whoever sends no token; large files are served from another host
name, without one.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from huggingface_hub import constants

TOKEN = "hf_loopbackToken0123456789"
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}


@dataclass(frozen=True)
class Blob:
    content: bytes
    large: bool

    @property
    def git(self):
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self):
        return self.sha256 if self.large else self.git


@dataclass
class Repo:
    private: bool
    commits: dict = field(default_factory=dict)  # commit -> {path: Blob}
    head: str = ""
    variables: dict = field(default_factory=dict)  # of a Space

    @property
    def files(self):
        return self.commits[self.head]

    def commit(self, files):
        seed = self.head + json.dumps({path: blob.oid for path, blob in sorted(files.items())})
        self.head = hashlib.sha1(seed.encode()).hexdigest()
        self.commits[self.head] = dict(files)
        return self.head


@dataclass
class Fault:
    """What happens instead of an answer, `times` times: a status, or a download cut half-way, or a changed byte."""

    method: str
    path: str
    status: int = 0
    times: int = 1
    headers: dict = field(default_factory=dict)
    cut: bool = False
    corrupt: bool = False


class Hub:
    """The server's state: repositories by (kind, name), requests seen, faults to come."""

    def __init__(self):
        self.repos, self.stored, self.faults, self.requests = {}, {}, [], []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def seen(self, method, path):
        return [request for request in self.requests if request[0] == method and re.search(path, request[1])]

    def take_fault(self, method, path):
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None


@contextmanager
def open_hub(monkeypatch, cache):
    """A server that this process's client talks to, with a token and a cache of its own; nothing sleeps.

    Yields the server; `hub.waits` collects the seconds that the client would have slept.
    """
    with Hub() as hub:
        hub.waits = []
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("time.sleep", hub.waits.append)
        yield hub


class Handler(BaseHTTPRequestHandler):
    hub = None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.route("GET")

    def do_HEAD(self):
        self.route("HEAD")

    def do_POST(self):
        self.route("POST")

    def do_PUT(self):
        self.route("PUT")

    def route(self, method):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path = unquote(url.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.requests.append((method, path, headers))
        self.fault = self.hub.take_fault(method, path)
        if self.fault and self.fault.status:
            return self.answer(self.fault.status, {"error": "for the test"}, self.fault.headers)
        for pattern, handle in ROUTES:
            found = re.fullmatch(pattern, f"{method} {path}")
            if found:
                return handle(self, *found.groups(), **{k: v[0] for k, v in parse_qs(url.query).items()})
        return self.answer(404, {"error": f"no route {method} {path}"})

    @property
    def known(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def find(self, kind, name, revision=None):
        """The repository and the commit, or None after an answer that says why."""
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not self.known):
            return self.answer(401, {"error": "Invalid username or password."}, {"X-Error-Code": "RepoNotFound"})
        commit = repo.head if revision in (None, "main") else revision
        if commit not in repo.commits:
            return self.answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return repo, commit

    def answer(self, status, content=b"", headers=None):
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(raw), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def create(self):
        asked = json.loads(self.body)
        if not self.known:
            return self.answer(401, {"error": "Invalid username or password."})
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/{'' if kind == 'model' else kind + 's/'}{name}"
        if (kind, name) in self.hub.repos:
            return self.answer(409, {"error": "You already created this repo", "url": url})
        repo = self.hub.repos[kind, name] = Repo(asked.get("visibility") == "private")
        repo.commit({".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", False)})
        return self.answer(200, {"url": url})

    def validate(self):
        good = json.loads(self.body)["content"].startswith("---\n")
        self.answer(200 if good else 400, {"errors": [] if good else [{"message": "no front matter"}], "warnings": []})

    def info(self, kinds, name, revision=None):
        if found := self.find(KINDS[kinds], name, revision):
            repo, commit = found
            files = [{"rfilename": path} for path in repo.commits[commit]]
            self.answer(200, {"id": name, "sha": commit, "private": repo.private, "siblings": files, "tags": []})

    def preupload(self, kinds, name, revision):
        if found := self.find(KINDS[kinds], name, revision):
            files = []
            for asked in json.loads(self.body)["files"]:
                there = found[0].files.get(asked["path"])
                large = asked["path"].endswith((".safetensors", ".png"))
                mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
                files.append({"path": asked["path"], "oid": there.oid if there else None, **mode})
            self.answer(200, {"files": files})

    def batch(self, *_):
        objects = []
        for asked in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.url}/lfs/{asked['oid']}"}
            verify = {"href": f"{self.hub.url}/lfs/verify"}
            have = asked["oid"] in self.hub.stored
            objects.append({**asked, **({} if have else {"actions": {"upload": upload, "verify": verify}})})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def store(self, oid):
        self.hub.stored[oid] = self.body
        self.answer(200 if hashlib.sha256(self.body).hexdigest() == oid else 422)

    def verify(self):
        asked = json.loads(self.body)
        self.answer(200 if len(self.hub.stored.get(asked["oid"], b"")) == asked["size"] else 422)

    def commit(self, kinds, name, revision):
        if found := self.find(KINDS[kinds], name, revision):
            files = dict(found[0].files)
            for line in self.body.splitlines():
                key, value = (item := json.loads(line))["key"], item["value"]
                if key == "file":
                    files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
                elif key == "lfsFile":
                    files[value["path"]] = Blob(self.hub.stored[value["oid"]], True)
                elif key == "deletedFile":
                    del files[value["path"]]
            oid = found[0].commit(files)
            self.answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def tree(self, kinds, name, revision, **_):
        if found := self.find(KINDS[kinds], name, revision):
            entries = []
            for path, blob in found[0].commits[found[1]].items():
                lfs = {"lfs": {"oid": blob.sha256, "size": len(blob.content), "pointerSize": 134}} if blob.large else {}
                entries.append({"type": "file", "path": path, "size": len(blob.content), "oid": blob.git, **lfs})
            self.answer(200, entries)

    def vary(self, name):
        if found := self.find("space", name):
            asked = json.loads(self.body)
            found[0].variables[asked["key"]] = asked["value"]
            self.answer(200, {key: {"value": value} for key, value in found[0].variables.items()})

    def resolve(self, kinds, name, revision, path):
        if found := self.find(KINDS[kinds or "models"], name, revision):
            blob = found[0].commits[found[1]].get(path)
            headers = {"X-Repo-Commit": found[1]}
            if blob is None:
                return self.answer(404, {"error": "Entry not found"}, {**headers, "X-Error-Code": "EntryNotFound"})
            if not blob.large:
                return self.send_blob(blob, {**headers, "ETag": f'"{blob.git}"'})
            self.hub.stored[blob.sha256] = blob.content
            elsewhere = f"http://localhost:{self.hub.server.server_port}/storage/{blob.sha256}"
            linked = {"X-Linked-Etag": f'"{blob.sha256}"', "X-Linked-Size": len(blob.content)}
            return self.answer(302, b"", {**headers, **linked, "Location": elsewhere})
        return None

    def storage(self, oid):
        self.send_blob(Blob(self.hub.stored[oid], True), {"ETag": f'"{oid}"'})

    def send_blob(self, blob, headers):
        """A file, or the rest of it from where the client has it."""
        content, total = blob.content, len(blob.content)
        if self.fault and self.fault.corrupt:
            content = bytes([content[0] ^ 1]) + content[1:]
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        headers = {**headers, "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start[1]}-{total - 1}/{total}"
            content = content[int(start[1]) :]
        if self.fault and self.fault.cut:
            self.send_response(206 if start else 200)
            for name, value in {**headers, "Content-Length": len(content)}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        if self.command == "HEAD":
            headers["Content-Length"] = total
        self.answer(206 if start else 200, b"" if self.command == "HEAD" else content, headers)


_REPO = r"([\w.-]+/[\w.-]+)"
_API = rf"/api/(models|datasets|spaces)/{_REPO}"
ROUTES = [
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (rf"GET {_API}(?:/revision/([^/]+))?", Handler.info),
    (rf"POST {_API}/preupload/([^/]+)", Handler.preupload),
    (rf"POST {_API}/commit/([^/]+)", Handler.commit),
    (rf"GET {_API}/tree/([^/]+)", Handler.tree),
    (rf"POST /(?:datasets/|spaces/)?{_REPO}\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /lfs/([0-9a-f]{64})", Handler.store),
    (r"POST /lfs/verify", Handler.verify),
    (rf"POST /api/spaces/{_REPO}/variables", Handler.vary),
    (rf"(?:GET|HEAD) /(?:(datasets|spaces)/)?{_REPO}/resolve/([^/]+)/(.+)", Handler.resolve),
    (r"(?:GET|HEAD) /storage/([0-9a-f]{64})", Handler.storage),
]
