"""What one visit is told of, no other reaches."""

import json
from pathlib import Path
from typing import Any

import pytest
from ip2p.hub.web import visits
from ip2p.hub.web.limits import Rate
from ip2p.hub.web.visits import Visits
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

CACHE = Path("/tmp/gradio")
MINE, OTHER = "a" * 64, "b" * 64


async def show(request: Request) -> Response:
    return PlainTextResponse(request.path_params["path"])


async def join(request: Request) -> Response:
    """Answers with what was asked, as a page does, and with the file of that name."""
    asked = await request.json()

    async def events() -> Any:
        yield f"data: {json.dumps({'said': asked.get('said')})}\n\n".encode()
        if "file" in asked:
            change = ["replace", ["path"], f"{CACHE}/{asked['file'] * 64}/image.png"]
            yield f"data: {json.dumps([change])}\n\n".encode()

    return StreamingResponse(events(), media_type="text/event-stream")


async def upload(request: Request) -> Response:
    name = request.query_params.get("name", "scene.png")
    return JSONResponse([f"{CACHE}/{MINE}/{name}"])


def page(uploads: int = 100) -> Starlette:
    routes = [
        Route("/gradio_api/file={path:path}", show, methods=["GET", "HEAD"]),
        Route("/gradio_api/file/{path:path}", show),
        Route("/gradio_api/queue/join", join, methods=["POST"]),
        Route("/gradio_api/upload", upload, methods=["POST"]),
        Route("/", lambda _: PlainTextResponse("page")),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Visits, cache=CACHE, uploads=Rate(uploads))])


def visit(app: Starlette, **more: Any) -> Any:
    client = TestClient(app, **more)
    client.get("/")
    return client


def status(client: Any, folder: str, name: str = "image.png") -> int:
    return client.get(f"/gradio_api/file={CACHE}/{folder}/{name}").status_code


def join_status(client: Any, asked: Any) -> int:
    return client.post("/gradio_api/queue/join", content=json.dumps(asked)).status_code


def test_a_file_is_for_the_visit_that_was_told_of_it() -> None:
    app = page()
    one, two = visit(app), visit(app)
    join_status(one, {"file": "a"})  # "a" * 64 in a stream
    assert (status(one, MINE), status(two, MINE)) == (200, 404)
    old = f"/gradio_api/file/{CACHE}/{MINE}/image.png"
    assert (one.get(old).status_code, two.get(old).status_code) == (200, 404)
    assert one.head(f"/gradio_api/file={CACHE}/{MINE}/image.png").status_code == 200
    two.post("/gradio_api/upload")
    assert status(two, MINE) == 200  # the same content, which it has itself


def test_nothing_else_is_given() -> None:
    client = visit(page())
    client.post("/gradio_api/upload")
    elsewhere = f"https://example.com/{MINE}/x.png"
    for path in ("/etc/passwd", elsewhere, f"{CACHE}/{MINE}/../{OTHER}/image.png", ""):
        for address in "/gradio_api/file=", "/gradio_api/file/":
            assert client.get(address + path.replace("..", "%2e%2e")).status_code == 404


@pytest.mark.parametrize(
    "said",
    [
        f"{CACHE}/{OTHER}/image.png",
        {"path": f"{CACHE}/{OTHER}/image.png"},
        [[{f"{CACHE}/{OTHER}/image.png": 1}]],
    ],
)
def test_another_visits_file_can_not_be_asked_for(said: Any) -> None:
    client = visit(page())
    assert join_status(client, {"said": said}) == 403
    assert join_status(client, {"said": "make it winter"}) == 200
    escaped = json.dumps({"said": said}).replace("b", "\\u0062")  # the same, written otherwise
    assert client.post("/gradio_api/queue/join", content=escaped).status_code == 403
    assert status(client, OTHER) == 404


def test_a_files_name_can_not_tell_of_another() -> None:
    client = visit(page())
    for name in (f"{OTHER}.png", f'x", "{CACHE}/{OTHER}/x.png', f"..{CACHE}/{OTHER}/x.png"):
        client.post("/gradio_api/upload", params={"name": name})
    assert status(client, OTHER) == 404


def test_what_is_no_json_or_too_much_is_refused() -> None:
    client = visit(page())
    assert client.post("/gradio_api/queue/join", content=b"\x89PNG").status_code == 400
    assert client.post("/gradio_api/queue/join", content=b"[" * 10_000).status_code == 400
    assert client.post("/gradio_api/queue/join", content=b'"' + b"x" * 1_000_001).status_code == 413


def test_a_function_called_upload_takes_no_more_than_others() -> None:
    client = visit(page())
    for way in "run", "api", "call", "call/v2":
        assert client.post(f"/gradio_api/{way}/upload", content=b'"' + b"x" * 1_000_001).status_code == 413


def test_uploads_are_limited() -> None:
    client = visit(page(uploads=2))
    assert [client.post("/gradio_api/upload").status_code for _ in range(3)] == [200, 200, 429]


def test_the_cookie_works_in_a_frame_of_another_page_and_is_for_servers_only() -> None:
    plain = TestClient(page()).get("/").headers["set-cookie"]
    assert "HttpOnly" in plain and "SameSite=Lax" in plain and "Secure" not in plain
    framed = TestClient(page()).get("/", headers={"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert "Secure; SameSite=None; Partitioned" in framed
    client = visit(page())
    assert "set-cookie" not in client.get("/").headers


@pytest.mark.parametrize("foreign", ["foo", "foo=a b", 'foo="', "foo=é"])
def test_cookies_of_other_servers_are_passed_over(foreign: str) -> None:
    app = page()
    name = visit(app).cookies["ip2p_visit"]
    told = {"cookie": f"{foreign}; ip2p_visit={name}".encode()}
    assert "set-cookie" not in TestClient(app).get("/", headers=told).headers


def test_the_longest_unseen_visits_and_files_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "VISITS", 1)
    monkeypatch.setattr(visits, "FILES", 1)
    app = page()
    one, two = visit(app), visit(app)
    join_status(one, {"file": "a"})
    join_status(one, {"file": "b"})
    assert (status(one, MINE), status(one, OTHER)) == (404, 200)
    join_status(two, {"file": "a"})
    assert (status(one, OTHER), status(two, MINE)) == (404, 200)
