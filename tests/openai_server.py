"""A service with OpenAI's API on this machine: chat, files, batches, fine-tuning, moderation, and faults on demand.

In a test: `with serving(Faults(rate_limited=0.2)) as service:`, then `service.url` and `service.asked`. By itself, so
that a client may be killed: `python openai_server.py --faults '{"rate_limited": 0.2}'` prints the URL, and GET /counts
gives what a test wants to know. Which request meets which fault depends on its content and on how often it was asked,
never on order or time.
"""

import argparse
import asyncio
import email
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import uvicorn
from openai_faults import TRANSPORT, Faults, complete, digest, draw, drop, failure, which
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


@dataclass
class Service:
    """What the service holds, and what it was asked."""

    faults: Faults = field(default_factory=Faults)
    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    """Attempts by content."""
    answered: Counter[str] = field(default_factory=Counter)
    """Answers by content: what a real service would have been paid for."""
    times: list[float] = field(default_factory=list)
    """When each attempt came."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """What it was asked, as JSON."""
        return {
            "asked": dict(self.asked),
            "answered": dict(self.answered),
            "repeated": sum(count - 1 for count in self.answered.values()),
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "batches": len(self.batches),
            "jobs": len(self.jobs),
        }

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        body, faults = await request.json(), self.faults
        content = digest(body)
        self.times.append(time.monotonic())
        self.bodies.append(body)
        self.asked[content] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(faults.latency)
            if faults.refusal:
                return failure(faults.refusal["status"], faults.refusal["message"], faults.refusal.get("code"))
            if faults.filtered and faults.filtered in json.dumps(body["messages"]):
                return failure(400, "The prompt was filtered", "content_filter")
            met = which((content, self.asked[content]), TRANSPORT, faults)
            if self.asked[content] > faults.times:
                met = None
            if faults.poison and faults.poison in json.dumps(body["messages"]):
                met = "errors"
            if met == "rate_limited":
                headers = {"Retry_After": faults.retry_after} if faults.retry_after else {}
                return failure(429, "Rate limit reached", "rate_limit_exceeded", **headers)
            if met == "errors":
                return failure(500, f"The server had an error with {request.headers.get('authorization')}")
            if met == "hangs":
                await asyncio.sleep(60)
            if met == "drops":
                return drop(request)
            self.answered[content] += 1
            return JSONResponse(complete(body, faults))
        finally:
            self.in_flight -= 1

    async def upload(self, request: Request) -> Response:
        """POST /v1/files."""
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        parts = {
            str(part.get_param("name", header="content-disposition")): part
            for part in email.message_from_bytes(head + await request.body()).walk()
        }
        content: Any = parts["file"].get_payload(decode=True)
        name = f"file-{len(self.files)}"
        self.files[name] = (str(parts["file"].get_filename()), content)
        about = {"id": name, "object": "file", "bytes": len(content), "created_at": 0, "status": "processed"}
        purpose = parts["purpose"].get_payload()
        return JSONResponse(about | {"filename": self.files[name][0], "purpose": purpose})

    async def content(self, request: Request) -> Response:
        """GET /v1/files/{id}/content."""
        return Response(self.files[request.path_params["id"]][1])

    async def create_batch(self, request: Request) -> Response:
        """POST /v1/batches."""
        body = await request.json()
        name = f"batch_{len(self.batches)}"
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "completion_window": body["completion_window"],
            "input_file_id": body["input_file_id"],
            "metadata": body.get("metadata"),
            "created_at": 0,
            "status": "validating",
            "polls": 0,
        }
        if self.faults.dies_after_create and len(self.batches) == 1:
            return drop(request)
        return JSONResponse(self.batches[name])

    async def batch(self, request: Request) -> Response:
        """GET /v1/batches/{id}. Being asked about is what moves a batch on."""
        batch = self.batches[request.path_params["id"]]
        batch["polls"] += 1
        if batch["status"] in ("validating", "in_progress"):
            batch["status"] = "in_progress"
            if batch["polls"] >= self.faults.batch_polls:
                self.finish_batch(batch)
        return JSONResponse(batch)

    def finish_batch(self, batch: dict[str, Any]) -> None:
        """End a batch, with its two files."""
        faults = self.faults
        if int(batch["id"].split("_")[1]) >= faults.batches:
            faults = replace(faults, batch="completed", lost=0.0, failing=0.0)
        if faults.batch in ("failed", "token_limit_exceeded"):
            messages = {
                "failed": ("invalid_json_line", "This line is not parseable as valid JSON."),
                "token_limit_exceeded": ("token_limit_exceeded", "Enqueued token limit reached."),
            }
            code, message = messages[faults.batch]
            batch["status"] = "failed"
            batch["errors"] = {
                "object": "list",
                "data": [{"code": code, "message": message, "line": 1, "param": None}],
            }
            return
        batch["status"] = faults.batch
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]][1].decode().split("\n") if line]
        lines.sort(key=lambda line: draw("order", line))
        done = lines if faults.batch == "completed" else lines[: len(lines) // 2]
        results, errors = [], []
        for line in lines:
            told = {"id": f"batch_req_{digest(line)[:12]}", "custom_id": line["custom_id"]}
            chance = draw("batch", line)
            if line not in done:
                code = f"batch_{faults.batch}"
                errors.append(told | {"response": None, "error": {"code": code, "message": "Not executed."}})
            elif chance < faults.failing:
                body = {"error": {"message": "The server had an error", "code": None}}
                errors.append(told | {"response": {"status_code": 500, "body": body}, "error": None})
            elif chance >= faults.failing + faults.lost:
                self.answered[digest(line["body"])] += 1
                body = complete(line["body"], faults)
                results.append(told | {"response": {"status_code": 200, "body": body}, "error": None})
        for name, content in (("output_file_id", results), ("error_file_id", errors)):
            if content:
                batch[name] = f"file-{len(self.files)}"
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content)
                self.files[batch[name]] = (f"{batch['id']}.jsonl", text.encode())

    async def list_batches(self, request: Request) -> Response:
        """GET /v1/batches."""
        return self.page(request, list(self.batches.values())[::-1])

    def page(self, request: Request, items: list[dict[str, Any]]) -> Response:
        """Some of the items, newest first, after the one that the client has seen."""
        after, limit = request.query_params.get("after"), int(request.query_params.get("limit", 2))
        start = 1 + [item["id"] for item in items].index(after) if after else 0
        shown = items[start : start + limit]
        ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
        return JSONResponse({"object": "list", "data": shown, "has_more": start + limit < len(items)} | ends)

    async def create_job(self, request: Request) -> Response:
        """POST /v1/fine_tuning/jobs."""
        body = await request.json()
        if self.faults.tuning == "closing":
            return failure(403, "Fine-tuning is closing: no new jobs are accepted.", "fine_tuning_unavailable")
        if self.faults.tuning == "not_tunable":
            return failure(400, f"Model {body['model']} is not available for fine-tuning.", "model_not_available")
        name = f"ftjob-{len(self.jobs)}"
        self.jobs[name] = {
            "id": name,
            "object": "fine_tuning.job",
            "model": body["model"],
            "training_file": body["training_file"],
            "validation_file": body.get("validation_file"),
            "method": body["method"],
            "metadata": body.get("metadata"),
            "hyperparameters": {},
            "organization_id": "org",
            "result_files": [],
            "seed": body.get("seed", 0),
            "created_at": 0,
            "status": "validating_files",
            "fine_tuned_model": None,
            "error": None,
            "polls": 0,
            "told": [],
        }
        self.tell(self.jobs[name], "Created fine-tuning job")
        if self.faults.dies_after_create and len(self.jobs) == 1:
            return drop(request)
        return JSONResponse(self.jobs[name])

    def tell(self, job: dict[str, Any], message: str) -> None:
        count = len(job["told"])
        job["told"].append(
            {
                "id": f"ftevent-{job['id']}-{count}",
                "object": "fine_tuning.job.event",
                "created_at": count,
                "level": "info",
                "message": message,
                "type": "message",
            }
        )

    async def job(self, request: Request) -> Response:
        """GET /v1/fine_tuning/jobs/{id}. Being asked about is what moves a job on."""
        job = self.jobs[request.path_params["id"]]
        if job["status"] in ("validating_files", "running"):
            job["polls"] += 1
            self.advance(job)
        return JSONResponse(job)

    def advance(self, job: dict[str, Any]) -> None:
        """One step of a job."""
        examples = self.files[job["training_file"]][1].count(b"\n")
        if examples < 10:
            job["status"] = "failed"
            message = f"Training file has {examples} example(s), but must have at least 10 examples"
            job["error"] = {"code": "invalid_n_examples", "message": message, "param": "training_file"}
        elif job["polls"] < self.faults.batch_polls:
            job["status"] = "running"
            self.tell(job, f"Step {job['polls']}: training loss={1 / job['polls']:.2f}")
        elif self.faults.tuning == "failed":
            job["status"] = "failed"
            job["error"] = {"code": "unsafe", "message": "The training file was turned down.", "param": None}
        elif self.faults.tuning == "cancelled":
            job["status"] = "cancelled"
        else:
            job["status"] = "succeeded"
            job["fine_tuned_model"] = f"ft:{job['model']}:org::{job['id']}"
            job["trained_tokens"] = 1234
            self.tell(job, "The job has successfully completed")

    async def list_jobs(self, request: Request) -> Response:
        """GET /v1/fine_tuning/jobs."""
        if self.faults.tuning == "absent":
            return failure(404, "Not Found")
        return self.page(request, list(self.jobs.values())[::-1])

    async def events(self, request: Request) -> Response:
        """GET /v1/fine_tuning/jobs/{id}/events."""
        return self.page(request, self.jobs[request.path_params["id"]]["told"][::-1])

    async def checkpoints(self, request: Request) -> Response:
        """GET /v1/fine_tuning/jobs/{id}/checkpoints."""
        return self.page(request, [])

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [{"id": "tiny", "object": "model", "created": 0}]})

    async def moderate(self, request: Request) -> Response:
        """POST /v1/moderations: what contains "gore" is flagged."""
        body = await request.json()
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        self.asked[digest(texts)] += 1
        met = which((texts, self.asked[digest(texts)]), TRANSPORT, self.faults)
        if met == "rate_limited":
            return failure(429, "Rate limit reached", "rate_limit_exceeded")
        if met == "errors":
            return failure(500, "The server had an error")
        results = [
            {
                "flagged": "gore" in text.lower(),
                "categories": {"violence": "gore" in text.lower()},
                "category_scores": {"violence": float("gore" in text.lower())},
                "category_applied_input_types": {},
            }
            for text in texts
        ]
        return JSONResponse({"id": "modr-0", "model": body.get("model", "tiny"), "results": results})

    async def tell_counts(self, request: Request) -> Response:
        """GET /counts."""
        return JSONResponse(self.counts())

    async def set_faults(self, request: Request) -> Response:
        """PUT /faults."""
        self.faults = Faults(**await request.json())
        return JSONResponse(asdict(self.faults))


def application(service: Service) -> Any:
    """The service as an ASGI application that checks keys."""
    routes = [
        Route("/v1/chat/completions", service.chat, methods=["POST"]),
        Route("/v1/files", service.upload, methods=["POST"]),
        Route("/v1/files/{id}/content", service.content),
        Route("/v1/batches", service.create_batch, methods=["POST"]),
        Route("/v1/batches", service.list_batches),
        Route("/v1/batches/{id}", service.batch),
        Route("/v1/fine_tuning/jobs", service.create_job, methods=["POST"]),
        Route("/v1/fine_tuning/jobs", service.list_jobs),
        Route("/v1/fine_tuning/jobs/{id}", service.job),
        Route("/v1/fine_tuning/jobs/{id}/events", service.events),
        Route("/v1/fine_tuning/jobs/{id}/checkpoints", service.checkpoints),
        Route("/v1/models", service.models),
        Route("/v1/moderations", service.moderate, methods=["POST"]),
        Route("/counts", service.tell_counts),
        Route("/faults", service.set_faults, methods=["PUT"]),
        Route("/page/chat/completions", lambda request: PlainTextResponse("<html>a page</html>"), methods=["POST"]),
    ]
    app = Starlette(routes=routes)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"").decode()
            key = service.faults.key
            if key is not None and given != f"Bearer {key}" and scope["path"].startswith("/v1/"):
                response = failure(401, f"Incorrect API key provided: {given}", "invalid_api_key")
                return await response(scope, receive, send)
        scope["abort"] = lambda: send.__self__.transport.abort()
        await app(scope, receive, send)

    return guarded


def start(service: Service, port: int = 0) -> uvicorn.Server:
    """Serve from a thread; `service.url` is set when it listens."""
    config = uvicorn.Config(application(service), port=port, log_level="critical", lifespan="off", http="h11")
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    service.url = f"http://127.0.0.1:{port}/v1"
    return server


@contextmanager
def serving(faults: Faults | None = None) -> Iterator[Service]:
    """A service for the length of a test."""
    service = Service(faults or Faults())
    server = start(service)
    try:
        yield service
    finally:
        server.force_exit = server.should_exit = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--faults", type=json.loads, default={})
    given = parser.parse_args()
    service = Service(Faults(**given.faults))
    start(service, given.port)
    print(service.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
