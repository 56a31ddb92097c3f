"""Projects and deployments over HTTP: what comes in is checked, what goes out is true."""

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from scalemesh.values import DeploymentId, State
from tests.whole.control_host import ControlHost, open_control_host

PAGE = b"<h1>uploaded</h1>"
DIGEST = hashlib.sha256(PAGE).hexdigest()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[ControlHost]:
    async with open_control_host(tmp_path) as opened:
        yield opened


async def ready(host: ControlHost, **wanted: object) -> str:
    deployment = DeploymentId(await host.deploy(**wanted))
    await host.life.built(deployment)
    await host.life.until(deployment, State.READY)
    return deployment


async def test_a_git_url_makes_its_project_once(host: ControlHost) -> None:
    first = await host.ask("POST", "/deployments", {"git_url": "https://git.example/a/shop.git"}, status=202)
    second = await host.ask("POST", "/deployments", {"git_url": "https://git.example/a/shop"}, status=202)
    assert first["project"] == second["project"] == "shop"
    assert first["state"] == "queued"
    assert first["created_at"].endswith("Z")
    assert [one["name"] for one in (await host.ask("GET", "/projects"))["projects"]] == ["shop"]


async def test_a_live_deployment_is_shown_under_its_projects_host(host: ControlHost) -> None:
    found = await host.ask("GET", f"/deployments/{await ready(host)}")
    assert (found["state"], found["is_live"], found["url"]) == ("ready", True, "http://site.localhost:8080/")
    assert found["permalink"] == f"http://site-{found['id'][-6:]}.localhost:8080/"


async def test_a_preview_is_shown_under_its_own_host(host: ControlHost) -> None:
    await ready(host)
    found = await host.ask("GET", f"/deployments/{await ready(host, branch='next', production=False)}")
    assert (found["is_live"], found["environment"], found["url"]) == (False, "preview", found["permalink"])


async def test_rollback_promote_and_unpin_move_what_is_live(host: ControlHost) -> None:
    old, new = await ready(host), await ready(host)
    assert (await host.ask("POST", "/projects/site/rollback"))["id"] == old
    assert (await host.ask("GET", "/projects/site"))["pinned"] is True
    assert (await host.ask("POST", f"/deployments/{new}/promote"))["is_live"] is True
    await host.ask("POST", "/projects/site/rollback", {"to": old})
    shown = await host.ask("POST", "/projects/site/purge")
    assert (shown["pinned"], shown["live"]) == (True, old)
    shown = await host.ask("POST", "/projects/site/unpin")
    assert (shown["pinned"], shown["live"]) == (False, old)


async def test_cancel_redeploy_and_delete(host: ControlHost) -> None:
    live, waiting = await ready(host), await host.deploy(branch="next")
    assert (await host.ask("POST", f"/deployments/{waiting}/cancel"))["state"] == "canceled"
    again = await host.ask("POST", f"/deployments/{waiting}/redeploy", status=202)
    assert (again["branch"], again["id"] != waiting) == ("next", True)
    await host.ask("DELETE", f"/deployments/{waiting}", status=204)
    await host.ask("GET", f"/deployments/{waiting}", status=404)
    assert (await host.ask("DELETE", f"/deployments/{live}", status=409))["code"] == "conflict"


async def test_pages_of_deployments_join_without_gap_or_double(host: ControlHost) -> None:
    made = [await host.deploy(branch=f"b{number}") for number in range(5)]
    seen: list[str] = []
    query = "limit=2"
    while True:
        page = await host.ask("GET", f"/projects/site/deployments?{query}")
        seen += [one["id"] for one in page["deployments"]]
        if page["next"] is None:
            break
        query = f"limit=2&before={page['next']}"
    assert seen == made[::-1]


async def test_a_page_has_its_bounds(host: ControlHost) -> None:
    for query in ("limit=0", "limit=201", "limit=x", "limit=-1", "before=1e9", "limit=%C2%B2"):
        assert (await host.ask("GET", f"/deployments?{query}", status=400))["code"] == "invalid"


async def test_every_mistake_in_a_body_is_named_at_once(host: ControlHost) -> None:
    body = {"git_url": 7, "brunch": "main", "production": "yes"}
    said = (await host.ask("POST", "/deployments", body, status=400))["title"]
    assert 'brunch: unknown name; did you mean "branch"?' in said
    assert "git_url = 7: must be a string" in said
    assert "production = 'yes': must be true or false" in said


async def test_what_is_no_json_object_is_a_clear_error(host: ControlHost) -> None:
    half_a_character, long_number = b'{"name": "\\ud800"}', b'{"name": ' + b"9" * 5000 + b"}"
    for body in (b"{", b"[]", b'"x"', b"\xff", b"[" * 200_000, half_a_character, long_number):
        answer = await host.admin.post("/api/v1/projects", data=body)
        assert (answer.status, answer.content_type) == (400, "application/problem+json"), body[:20]
        assert set(await answer.json()) == {"type", "title", "detail", "fix", "code", "status", "request_id"}


async def test_a_large_body_is_refused_whether_announced_or_not(host: ControlHost) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    for data in (b" " * 1_000_000, chunks()):
        assert (await host.admin.post("/api/v1/projects", data=data)).status == 413


async def test_a_change_keeps_what_it_does_not_name_and_null_takes_back(host: ControlHost) -> None:
    settings = {"build_command": "make", "root_directory": "web"}
    await host.ask("POST", "/projects", {"git_url": "https://git.example/a/shop", "settings": settings}, status=201)
    changed = await host.ask("PATCH", "/projects/shop", {"settings": {"build_command": None}})
    assert changed["settings"]["build_command"] is None
    assert (changed["settings"]["root_directory"], changed["git_url"]) == ("web", "https://git.example/a/shop")
    assert (await host.ask("PATCH", "/projects/shop", {"settings": {"rot": 1}}, status=400))["code"] == "invalid"
    changed = await host.ask("PATCH", "/projects/shop", {"settings": {"dialect": "netlify"}})
    assert (changed["settings"]["dialect"], changed["settings"]["root_directory"]) == ("netlify", "web")
    refused = await host.ask("PATCH", "/projects/shop", {"settings": {"dialect": "apache"}}, status=400)
    assert "default, vercel, netlify, cloudflare" in refused["title"]


async def test_a_project_is_deleted_with_all_that_is_its(host: ControlHost) -> None:
    deployment = await ready(host)
    await host.ask("DELETE", "/projects/site", status=204)
    await host.ask("GET", "/projects/site", status=404)
    await host.ask("GET", f"/deployments/{deployment}", status=404)
    assert host.life.live() is None


async def test_values_of_variables_never_come_back_out(host: ControlHost) -> None:
    await host.ask("POST", "/projects", {"name": "shop"}, status=201)
    long = await host.ask("PUT", "/projects/shop/env/API_KEY", {"value": "hunter2hunter2"})
    short = await host.ask("PUT", "/projects/shop/env/PIN", {"value": "1234", "environments": ["preview"]})
    assert (long["is_masked"], short["is_masked"]) == (True, False)
    answer = await host.admin.get("/api/v1/projects/shop/env")
    assert "hunter2" not in await answer.text()
    names = [(one["name"], one["environment"]) for one in (await answer.json())["variables"]]
    assert names == [("API_KEY", "preview"), ("API_KEY", "production"), ("PIN", "preview")]
    await host.ask("DELETE", "/projects/shop/env/API_KEY?environment=preview", status=204)
    await host.ask("DELETE", "/projects/shop/env/API_KEY?environment=other", status=400)
    assert len((await host.ask("GET", "/projects/shop/env"))["variables"]) == 2


async def begun_upload(host: ControlHost) -> str:
    await host.ask("POST", "/projects", {"name": "shop"}, status=201)
    begun = await host.ask("POST", "/projects/shop/deployments", {"upload": "prebuilt"}, status=202)
    return f"/deployments/{begun['id']}"


async def test_a_finished_site_goes_live_by_upload(host: ControlHost) -> None:
    one = await begun_upload(host)
    asked = {"digests": [{"sha256": DIGEST, "size": len(PAGE)}]}
    assert (await host.ask("POST", f"{one}/blobs", asked))["missing"] == [DIGEST]
    assert (await host.admin.put(f"/api/v1{one}/blobs/{DIGEST}", data=PAGE)).status == 204
    files = {"files": [["index.html", DIGEST, len(PAGE), False]]}
    await host.ask("POST", f"{one}/finish", files)
    await host.life.until(DeploymentId(one.rsplit("/", 1)[1]), State.READY)
    assert (await host.ask("GET", one))["url"] == "http://shop.localhost:8080/"
    assert (await host.ask("POST", f"{one}/finish", files))["state"] == "ready"


async def test_an_upload_must_say_its_size_and_have_its_digest(host: ControlHost) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield PAGE

    one = await begun_upload(host)
    assert (await host.admin.put(f"/api/v1{one}/blobs/{DIGEST}", data=chunks())).status == 411
    assert (await host.admin.put(f"/api/v1{one}/blobs/{DIGEST}", data=b"other bytes......")).status == 422
    assert (await host.admin.put(f"/api/v1{one}/blobs/{DIGEST.upper()}", data=PAGE)).status == 400
    unsent = {"files": [["index.html", DIGEST, len(PAGE)]]}
    await host.ask("POST", f"{one}/finish", unsent, status=422)


async def test_a_list_of_files_that_is_none_is_refused(host: ControlHost) -> None:
    one = await begun_upload(host)
    for files in (None, "x", [["a"]], [["a", "b", 1]], [["a", DIGEST, -1]], [["a", DIGEST, 1, 1, 1]]):
        assert (await host.ask("POST", f"{one}/finish", {"files": files}, status=400))["code"] == "invalid"


async def test_status_and_metrics_count_deployments_by_state(host: ControlHost) -> None:
    await ready(host)
    assert (await host.ask("GET", "/status"))["deployments"]["ready"] == 1
    text = await (await host.admin.get("/metrics")).text()
    assert 'scalemesh_deployments{state="ready"} 1.0' in text
    assert "scalemesh_queue_length 0.0" in text


async def test_a_body_that_would_swell_in_memory_is_refused_unread(host: ControlHost) -> None:
    body = b'{"files": [' + b"[]," * 2_500_000 + b"[]]}"
    answer = await host.admin.post("/api/v1/deployments/dpl_x/finish", data=io.BytesIO(body))
    assert answer.status == 413
    assert "too many values" in (await answer.json())["title"]
