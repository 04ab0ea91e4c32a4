"""A hub on this machine that files can be pushed to: repositories, commits, large files, tokens."""

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import unquote

LARGE = (".safetensors", ".parquet")


class Hub:
    """What it holds.

    Attributes:
        tokens: what each token may do, ``read`` or ``write``.
        repositories: by kind (``model``, ``dataset``) and name.
        asked: every request, as method and path.
    """

    def __init__(self, tokens):
        self.tokens = tokens
        self.repositories = {}
        self.large = {}
        self.asked = []
        self.lock = Lock()
        self.address = None

    def add(self, kind, name, folder, *, private=False, gated=False):
        """A repository with the files of a folder."""
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
        self.repositories[kind, name] = repository = Repository(private, gated)
        repository.commit("main", files, "Initial commit")
        return repository


class Repository:
    """Commits by their hash, and branches and tags that name them."""

    def __init__(self, private=False, gated=False):
        self.private = private
        self.gated = gated
        self.commits = {}
        self.messages = {}
        self.names = {}
        self.commit("main", {}, "")

    def commit(self, branch, files, message):
        before = self.commits.get(self.names.get(branch), {})
        content = {**before, **files}
        listed = {path: hashlib.sha256(data).hexdigest() for path, data in content.items()}
        text = json.dumps([len(self.commits), listed, message])
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha], self.messages[sha], self.names[branch] = content, message, sha
        return sha

    def resolved(self, revision):
        """The commit of a branch, a tag or a hash."""
        sha = self.names.get(revision, revision)
        return sha if sha in self.commits else None

    @property
    def files(self):
        return self.commits[self.names["main"]]


class Refused(Exception):
    def __init__(self, status, code="", message="", **more):
        self.answer = status, code, message, more


@contextmanager
def hub_running(tokens=(("may-write", "write"), ("may-read", "read"))):
    """A hub, as long as the block lasts."""
    hub = Hub(dict(tokens))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def handle_one(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.asked.append((self.command, self.path))
            try:
                with hub.lock:
                    data, headers = route(hub, self.command, self.path, self.headers, body)
                self.send(200, data, headers)
            except Refused as refused:
                status, code, message, more = refused.answer
                data = json.dumps({"error": message, **more}).encode()
                self.send(status, data, {"X-Error-Code": code, "X-Error-Message": message})

        do_GET = do_HEAD = do_POST = do_PUT = handle_one

        def send(self, status, data, headers):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def route(hub, method, path, headers, body):
    """The answer to a request: its bytes and headers."""
    may = hub.tokens.get((headers.get("Authorization") or "").removeprefix("Bearer "))
    parts = [unquote(part) for part in path.partition("?")[0].strip("/").split("/")]
    if parts[:3] == ["api", "repos", "create"]:
        return create(hub, may, json.loads(body))
    if parts == ["api", "validate-yaml"]:
        return as_json({"errors": [], "warnings": []})
    if parts[0] == "large":
        if hashlib.sha256(body).hexdigest() != parts[1]:
            raise Refused(400, message="another hash")
        hub.large[parts[1]] = body
        return b"", {}
    if parts[0] == "api":
        kind, name, rest = parts[1].removesuffix("s"), "/".join(parts[2:4]), parts[4:]
        return api(hub, found(hub, kind, name, may), kind, name, method, rest, may, body)
    kind = "dataset" if parts[0] == "datasets" else "model"
    parts = parts[kind == "dataset" :]
    name, rest = "/".join(parts[:2]), parts[2:]
    repository = found(hub, kind, name.removesuffix(".git"), may)
    if rest[-2:] == ["objects", "batch"]:
        return as_json(batch(hub, json.loads(body)))
    return resolve(repository, rest[1], "/".join(rest[2:]))


def create(hub, may, asked):
    if may != "write":
        raise Refused(401 if may is None else 403, message="Invalid username or password.")
    kind, name = asked.get("type", "model"), f"{asked.get('organization') or 'someone'}/{asked['name']}"
    url = f"{hub.address}/{'datasets/' * (kind == 'dataset')}{name}"
    if (kind, name) in hub.repositories:
        raise Refused(409, message="You already created this repo", url=url)
    hub.repositories[kind, name] = Repository(private=asked.get("visibility") == "private")
    return as_json({"url": url})


def found(hub, kind, name, may):
    repository = hub.repositories.get((kind, name))
    if repository is None or (repository.private and may is None):
        raise Refused(401 if may is None else 404, "RepoNotFound", "Repository not found")
    return repository


def api(hub, repository, kind, name, method, rest, may, body):
    if method == "POST" and may != "write":
        raise Refused(403, message="This token has no right to write.")
    revision = rest[1] if len(rest) > 1 else "main"
    sha = repository.resolved(revision)
    if sha is None:
        raise Refused(404, "RevisionNotFound", "Invalid rev id")
    match rest[0] if rest else "":
        case "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(LARGE) else "regular" for path in paths}
            return as_json({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})
        case "commit":
            header, *operations = [json.loads(line) for line in body.splitlines()]
            files = dict(committed(hub, operation) for operation in operations)
            oid = repository.commit(revision, files, header["value"]["summary"])
            page = f"{hub.address}/{'datasets/' * (kind == 'dataset')}{name}/commit/{oid}"
            return as_json({"success": True, "commitOid": oid, "commitUrl": page})
        case "tree":
            return as_json([listed(path, data) for path, data in repository.commits[sha].items()])
    files = [{"rfilename": path} for path in repository.commits[sha]]
    return as_json({"id": name, "sha": sha, "private": repository.private, "siblings": files, "tags": []})


def committed(hub, operation):
    value = operation["value"]
    if operation["key"] == "lfsFile":
        return value["path"], hub.large[value["oid"]]
    return value["path"], base64.b64decode(value["content"])


def listed(path, data):
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry = {"type": "file", "path": path, "size": len(data), "oid": blob}
    if path.endswith(LARGE):
        oid = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 130}
    return entry


def batch(hub, asked):
    def action(each):
        upload = {"href": f"{hub.address}/large/{each['oid']}"}
        return each | ({} if each["oid"] in hub.large else {"actions": {"upload": upload}})

    return {"transfer": "basic", "objects": [action(each) for each in asked["objects"]]}


def resolve(repository, revision, path):
    if repository.gated:
        raise Refused(403, "GatedRepo", "Access to this repository is restricted.")
    sha = repository.resolved(revision)
    if sha is None:
        raise Refused(404, "RevisionNotFound", "Invalid rev id")
    if path not in repository.commits[sha]:
        raise Refused(404, "EntryNotFound", "Entry not found")
    data = repository.commits[sha][path]
    entry = listed(path, data)
    etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
    return data, {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "none"}


def as_json(value):
    return json.dumps(value).encode(), {"Content-Type": "application/json"}
