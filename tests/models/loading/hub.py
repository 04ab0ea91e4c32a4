"""A model hub on this machine: the part of its protocol that downloads files, with revisions and gates."""

import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def serving(repositories, gated=()):
    """The address of a hub that has ``repositories[id][revision] = folder``; the ``gated`` ones are refused."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def log_message(self, *args):
            pass

        def answer(self, *, body):
            path = self.path.partition("?")[0].strip("/")
            parts = path.split("/")
            if parts[0] == "api" and len(parts) >= 4:
                return self.describe("/".join(parts[2:4]), parts[4:])
            repository, rest = "/".join(parts[:2]), parts[2:]
            if repository in gated:
                return self.refuse(403, "GatedRepo", f"Access to model {repository} is restricted.")
            if repository not in repositories:
                return self.refuse(401, "RepoNotFound", "Invalid username or password.")
            folder = found(repositories[repository], rest[1])
            if folder is None:
                return self.refuse(404, "RevisionNotFound", "Invalid rev id")
            file = folder.joinpath(*rest[2:])
            if not file.is_file():
                return self.refuse(404, "EntryNotFound", "Entry not found")
            data = file.read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit(rest[1])}
            return self.send(200, data, headers, body)

        def describe(self, repository, rest):
            if repository not in repositories:
                return self.refuse(404, "RepoNotFound", "Repository not found")
            if rest and rest[0] == "tree":
                return self.refuse(404, "EntryNotFound", "no such folder")
            revision = rest[1] if len(rest) > 1 else "main"
            folder = found(repositories[repository], revision)
            if folder is None:
                return self.refuse(404, "RevisionNotFound", "Invalid rev id")
            files = [{"rfilename": f.name} for f in folder.iterdir()]
            data = json.dumps({"id": repository, "sha": commit(revision), "siblings": files}).encode()
            return self.send(200, data, {"Content-Type": "application/json"}, True)

        def refuse(self, status, code, message):
            self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": message}, False)

        def send(self, status, data, headers, body):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def found(revisions, wanted):
    """The folder of a branch or of its commit."""
    return next((folder for name, folder in revisions.items() if wanted in (name, commit(name))), None)


def commit(revision):
    return revision if len(revision) == 40 else hashlib.sha1(revision.encode()).hexdigest()
