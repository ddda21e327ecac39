"""A Hub on this machine that huggingface_hub uploads to and downloads from: `python hub_server.py FOLDER`.

Prints its address. Keeps repositories with branches, commits and LFS objects; asks for the token "secret" to write.
For tests POST /_control sets faults, GET /_log tells the bytes of every large transfer, and what GET /_repos tells,
POST /_repos brings back.
"""

import asyncio
import base64
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hub_cards
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TOKEN = "secret"
CHUNK = 1 << 16
LARGE = 10_000  # bytes from which a file is an LFS object
File = dict[str, Any]


class Hub:
    """All repositories, and the faults that are asked for.

    faults: {"path": a pattern, "method", "status" or "cut": bytes after which the connection breaks, "times"}
    delay:  seconds for each chunk of a large transfer
    """

    def __init__(self, folder: Path) -> None:
        self.objects = folder / "objects"
        self.objects.mkdir(parents=True, exist_ok=True)
        self.repos: dict[tuple[str, str], dict[str, Any]] = {}
        self.faults: list[dict[str, Any]] = []
        self.delay = 0.0
        self.log: list[dict[str, Any]] = []

    def repo(self, kind: str, name: str) -> dict[str, Any]:
        """A repository. Raises RefusalError where there is none."""
        if (kind, name) not in self.repos:
            raise RefusalError(404, "RepoNotFound")
        return self.repos[kind, name]

    def tree(self, kind: str, name: str, revision: str, token: str = "") -> tuple[str, dict[str, File]]:
        """A commit's id and files. A private repository is there for the token only, as on the Hub."""
        repo = self.repo(kind, name)
        if repo["private"] and token != TOKEN:
            raise RefusalError(404, "RepoNotFound")
        commit = repo["branches"].get(revision, revision)
        if commit not in repo["commits"]:
            raise RefusalError(404, "RevisionNotFound")
        return commit, repo["commits"][commit]

    def keep(self, content: bytes) -> File:
        """An ordinary file."""
        sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        (self.objects / sha1).write_bytes(content)
        return {"oid": sha1, "size": len(content), "lfs": None, "object": sha1}

    def keep_large(self, sha256: str, size: int) -> File:
        """A file whose content was uploaded before."""
        if not (self.objects / sha256).is_file():
            raise RefusalError(400, "LfsObjectMissing")
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        oid = hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()
        return {"oid": oid, "size": size, "lfs": sha256, "object": sha256}


class RefusalError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str = "") -> None:
        self.status, self.code = status, code


def answer(status: int, code: str) -> Response:
    return JSONResponse({"error": code}, status, {"X-Error-Code": code, "X-Error-Message": code})


async def fault(hub: Hub, request: Request) -> int | None:
    """Answer with a fault that is due, as RefusalError; or give the number of bytes after which to cut."""
    for each in hub.faults:
        is_meant = re.search(each["path"], request.url.path) and each.get("method", request.method) == request.method
        if each["times"] and is_meant:
            each["times"] -= 1
            if "cut" in each:
                return int(each["cut"])
            raise RefusalError(each["status"], each.get("code", ""))
    return None


def must_write(request: Request) -> None:
    told = request.headers.get("authorization", "")
    if not told:
        raise RefusalError(401, "")
    if told != f"Bearer {TOKEN}":
        raise RefusalError(403, "")


def token_of(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


class App:
    """The routes."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    async def create(self, request: Request) -> Response:
        must_write(request)
        told = await request.json()
        owner = told.get("organization") or "me"
        name, kind = f"{owner}/{told['name']}", told.get("type", "model")
        if (kind, name) in self.hub.repos:
            return JSONResponse({"url": str(request.base_url) + name, "error": "exists"}, 409)
        first = hashlib.sha1(name.encode()).hexdigest()
        self.hub.repos[kind, name] = {
            "branches": {"main": first},
            "commits": {first: {}},
            "private": told.get("visibility") == "private" or told.get("private"),
            "prs": 0,
        }
        return JSONResponse({"url": str(request.base_url) + name, "id": name, "name": name})

    async def branch(self, request: Request) -> Response:
        must_write(request)
        kind, name = place(request)
        repo, new = self.hub.repo(kind, name), request.path_params["branch"]
        if new in repo["branches"]:
            return answer(409, "exists")
        repo["branches"][new] = repo["branches"]["main"]
        return JSONResponse({})

    async def preupload(self, request: Request) -> Response:
        must_write(request)
        files = (await request.json())["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["size"] >= LARGE or file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in files
        ]
        self.hub.tree(*place(request), request.path_params["revision"], token_of(request))
        return JSONResponse({"files": modes})

    async def batch(self, request: Request) -> Response:
        must_write(request)
        objects = []
        for each in (await request.json())["objects"]:
            told = {"oid": each["oid"], "size": each["size"]}
            if not (self.hub.objects / each["oid"]).is_file():
                told["actions"] = {"upload": {"href": f"{request.base_url}_objects/{each['oid']}", "header": {}}}
            objects.append(told)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def put(self, request: Request) -> Response:
        oid = request.path_params["oid"]
        cut = await fault(self.hub, request)
        entry = {"what": "put", "oid": oid, "bytes": 0, "whole": False}
        self.hub.log.append(entry)
        aside = self.hub.objects / f"{oid}.partial"
        digest = hashlib.sha256()
        with aside.open("wb") as file:
            async for block in request.stream():
                file.write(block)
                digest.update(block)
                entry["bytes"] += len(block)
                if cut is not None and entry["bytes"] >= cut:
                    raise ConnectionResetError
                if self.hub.delay:
                    await asyncio.sleep(self.hub.delay * len(block) / CHUNK)
        if digest.hexdigest() != oid:
            return answer(400, "hash")
        aside.rename(self.hub.objects / oid)
        entry["whole"] = True
        return Response()

    async def commit(self, request: Request) -> Response:
        must_write(request)
        kind, name = place(request)
        revision = request.path_params["revision"]
        repo = self.hub.repo(kind, name)
        parent, tree = self.hub.tree(kind, name, revision, token_of(request))
        tree = dict(tree)
        for line in (await request.body()).decode().splitlines():
            entry = json.loads(line)
            told = entry["value"]
            if entry["key"] == "file":
                tree[told["path"]] = self.hub.keep(base64.b64decode(told["content"]))
            elif entry["key"] == "lfsFile":
                tree[told["path"]] = self.hub.keep_large(told["oid"], told["size"])
            elif entry["key"] == "deletedFile":
                tree.pop(told["path"])
        content = {path: file["oid"] for path, file in sorted(tree.items())}
        oid = hashlib.sha1(json.dumps([parent, content]).encode()).hexdigest()
        repo["commits"][oid] = tree
        answered = {"success": True, "commitOid": oid, "commitUrl": f"{request.base_url}{name}/commit/{oid}"}
        if request.query_params.get("create_pr") == "1":
            repo["prs"] += 1
            repo["branches"][f"refs/pr/{repo['prs']}"] = oid
            answered["pullRequestUrl"] = f"{request.base_url}{name}/discussions/{repo['prs']}"
        else:
            repo["branches"][revision] = oid
        return JSONResponse(answered)

    async def info(self, request: Request) -> Response:
        kind, name = place(request)
        commit, tree = self.hub.tree(kind, name, request.path_params.get("revision", "main"), token_of(request))
        siblings = []
        for path, file in sorted(tree.items()):
            told = {"rfilename": path}
            if request.query_params.get("blobs"):
                told |= {"size": file["size"], "blobId": file["oid"]}
                if file["lfs"]:
                    told["lfs"] = {"sha256": file["lfs"], "size": file["size"], "pointerSize": 130}
            siblings.append(told)
        private = bool(self.hub.repo(kind, name)["private"])
        about = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "tags": [], "private": private}
        return JSONResponse(about)

    async def list_tree(self, request: Request) -> Response:
        kind, name = place(request)
        _, tree = self.hub.tree(kind, name, request.path_params["revision"], token_of(request))
        below = request.path_params.get("path", "")
        recursive = request.query_params.get("recursive", "").lower() == "true"
        entries, folders = [], set()
        for path, file in sorted(tree.items()):
            if below and not path.startswith(below + "/"):
                continue
            rest = path.removeprefix(below + "/" if below else "")
            if "/" in rest and not recursive:
                folders.add(path[: len(path) - len(rest)] + rest.split("/")[0])
                continue
            entries.append(tree_entry(path, file))
        entries += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        if below and not entries:
            raise RefusalError(404, "EntryNotFound")
        return JSONResponse(entries)

    async def paths_info(self, request: Request) -> Response:
        _, tree = self.hub.tree(*place(request), request.path_params["revision"], token_of(request))
        form = await request.form()
        paths = form.getlist("paths") or (await request.json()).get("paths", [])
        return JSONResponse([tree_entry(str(path), tree[str(path)]) for path in paths if path in tree])

    async def resolve(self, request: Request) -> Response:
        cut = await fault(self.hub, request)
        kind, name = place(request)
        commit, tree = self.hub.tree(kind, name, request.path_params["revision"], token_of(request))
        path = request.path_params["path"]
        if path not in tree:
            return Response(status_code=404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        file = tree[path]
        content = self.hub.objects / file["object"]
        size = content.stat().st_size
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file["lfs"] or file["oid"]}"', "Accept-Ranges": "bytes"}
        if file["lfs"]:
            headers |= {"X-Linked-ETag": f'"{file["lfs"]}"', "X-Linked-Size": str(size)}
        start, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted:
            start, status = int(wanted[1]), 206
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        headers["Content-Length"] = str(size - start)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        return StreamingResponse(self.send(content, path, start, cut), status, headers)

    async def send(self, content: Path, path: str, start: int, cut: int | None) -> AsyncIterator[bytes]:
        entry = {"what": "get", "path": path, "bytes": 0, "whole": False}
        self.hub.log.append(entry)
        with content.open("rb") as file:
            file.seek(start)
            while block := file.read(CHUNK):
                if cut is not None and entry["bytes"] + len(block) >= cut:
                    raise ConnectionResetError
                yield block
                entry["bytes"] += len(block)
                if self.hub.delay:
                    await asyncio.sleep(self.hub.delay)
        entry["whole"] = True

    async def control(self, request: Request) -> Response:
        told = await request.json()
        self.hub.faults = told.get("faults", [])
        self.hub.delay = told.get("delay", 0.0)
        self.hub.log.clear()
        return Response()

    async def forget(self, _: Request) -> Response:
        self.hub.__init__(self.hub.objects.parent)  # type: ignore[misc]
        for file in self.hub.objects.iterdir():
            file.unlink()
        return Response()

    async def repositories(self, request: Request) -> Response:
        """All repositories, without the content of their files; or, posted, what they are from now on."""
        if request.method == "POST":
            self.hub.repos = {(kind, name): repo for (kind, name), repo in await request.json()}
        return JSONResponse([*self.hub.repos.items()])

    async def falsify(self, request: Request) -> Response:
        """Give an object another content of the same length, as a broken disk would."""
        told = await request.json()
        kept = self.hub.keep(base64.b64decode(told["content"]))
        (self.hub.objects / kept["object"]).write_bytes(base64.b64decode(told["as"]))
        return Response()

    async def show_log(self, request: Request) -> Response:
        return JSONResponse(self.hub.log)

    async def add_hostile(self, request: Request) -> Response:
        """Put files of any name, and of any size by its word, into a repository, as no client would."""
        told = await request.json()
        key = (told["kind"], told["repo"])
        tree = {path: self.hub.keep(base64.b64decode(content)) for path, content in told["files"].items()}
        for path, size in told.get("sizes", {}).items():
            tree[path] |= {"size": size}
        oid = hashlib.sha1(json.dumps(told).encode()).hexdigest()
        self.hub.repos[key] = {"branches": {"main": oid}, "commits": {oid: tree}, "private": False, "prs": 0}
        return Response()


def place(request: Request) -> tuple[str, str]:
    kind = request.path_params.get("kind", "models").removesuffix("s")
    return kind, f"{request.path_params['owner']}/{request.path_params['name'].removesuffix('.git')}"


def tree_entry(path: str, file: File) -> dict[str, Any]:
    told = {"type": "file", "path": path, "oid": file["oid"], "size": file["size"]}
    return told | ({"lfs": {"oid": file["lfs"], "size": file["size"], "pointerSize": 130}} if file["lfs"] else {})


def application(hub: Hub) -> Starlette:
    app = App(hub)

    def guarded(run: Any) -> Any:
        async def answered(request: Request) -> Response:
            try:
                if not request.url.path.startswith(("/_", "/datasets")) and "/resolve/" not in request.url.path:
                    await fault(hub, request)
                return await run(request)
            except RefusalError as refusal:
                return answer(refusal.status, refusal.code)

        return answered

    api, repo = "/api/{kind}/{owner}/{name}", "/{owner}/{name}"
    routes = [
        Route("/_control", app.control, methods=["POST"]),
        Route("/_hostile", app.add_hostile, methods=["POST"]),
        Route("/_forget", app.forget, methods=["POST"]),
        Route("/_repos", app.repositories, methods=["GET", "POST"]),
        Route("/_falsify", app.falsify, methods=["POST"]),
        Route("/_log", app.show_log),
        Route("/_objects/{oid}", guarded(app.put), methods=["PUT"]),
        Route("/api/repos/create", guarded(app.create), methods=["POST"]),
        Route("/api/validate-yaml", guarded(validate), methods=["POST"]),
        Route(api + "/branch/{branch:path}", guarded(app.branch), methods=["POST"]),
        Route(api + "/preupload/{revision:path}", guarded(app.preupload), methods=["POST"]),
        Route(api + "/commit/{revision:path}", guarded(app.commit), methods=["POST"]),
        Route(api + "/tree/{revision}", guarded(app.list_tree)),
        Route(api + "/tree/{revision}/{path:path}", guarded(app.list_tree)),
        Route(api + "/paths-info/{revision:path}", guarded(app.paths_info), methods=["POST"]),
        Route(api + "/revision/{revision:path}", guarded(app.info)),
        Route(api, guarded(app.info)),
        Route(repo + "/info/lfs/objects/batch", guarded(app.batch), methods=["POST"]),
        Route("/{kind:str}" + repo + "/info/lfs/objects/batch", guarded(app.batch), methods=["POST"]),
        Route(repo + "/resolve/{revision}/{path:path}", guarded(app.resolve), methods=["GET", "HEAD"]),
        Route("/{kind:str}" + repo + "/resolve/{revision}/{path:path}", guarded(app.resolve), methods=["GET", "HEAD"]),
    ]
    return Starlette(routes=routes)


async def validate(request: Request) -> Response:
    found = hub_cards.errors((await request.json())["content"])
    return JSONResponse({"errors": [{"message": each} for each in found], "warnings": []}, 400 if found else 200)


def main() -> None:
    config = uvicorn.Config(application(Hub(Path(sys.argv[1]))), port=0, log_level="critical")
    server = uvicorn.Server(config)

    async def serve() -> None:
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}", flush=True)
        await running

    asyncio.run(serve())


if __name__ == "__main__":
    main()
