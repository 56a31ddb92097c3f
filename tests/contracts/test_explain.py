"""Explain tells what the real visit does: random sites, rules and requests, over a real server."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scalemesh.edge.cache import BlobCache
from scalemesh.edge.cache import Sites as SiteCache
from scalemesh.edge.visit import Visits
from scalemesh.rules import Condition, Dialect, HeaderChange, Place, Protection, Rule, Rules
from scalemesh.services.explaining import Explainer, Explanation
from scalemesh.services.manifests import encode, make_manifest
from scalemesh.services.routing import RouteTable
from scalemesh.services.rules.compiled import Compiled
from scalemesh.values import HostKind, Route, State
from tests.contracts.visits import AT, ID, PROJECT, Got, MemoryStore, Unreachable
from tests.contracts.visits import Site as Served

SMALL_BYTES = 1000
PASSWORD = "hunter2-and-more"
PATHS = ("a", "b.html", "docs", "docs/x", "app.js", "old", "api/users", "secret/x", "index.html", "404.html")
FILES = {
    "index.html": b"<h1>home</h1>",
    "404.html": b"<h1>lost</h1>",
    "a.html": b"<h1>a</h1>",
    "b.html": b"<h1>b</h1>",
    "docs/index.html": b"<h1>docs</h1>",
    "docs/x.html": b"<h1>x</h1>",
    "app.js": b"console.log(1)",
    "secret/x.html": b"<h1>secret</h1>",
    "assets/index-BxYz12aB.js": b"large" * SMALL_BYTES,
    "empty.txt": b"",
}
ANSWERED = {"Date", "X-Request-Id", "Connection"}  #: new at each answer, or of the connection


@dataclass
class Host:
    """A real server, and the question to the very Visits that it answers with."""

    site: Served
    explainer: Explainer

    async def both(
        self, target: str, *, method: str = "GET", headers: Sequence[tuple[str, str]] = (), host: str = "shop.localhost"
    ) -> tuple[Got, Explanation]:
        told = await self.explainer.explain(f"http://{host}{target}", method=method, headers=headers)
        lines = [f"{name}: {value}" for name, value in headers]
        return await self.site.get(told.target, *lines, method=method, host=host), told


async def opened(use: AsyncExitStack, rules: Rules, files: Mapping[str, bytes], store: MemoryStore) -> Host:
    """Serve *files* under *rules*, until *use* is closed."""
    listing = [(path, store.add(data), len(data)) for path, data in files.items()]
    made = make_manifest(ID, AT, listing, ["assets/*-<hash>.*"], Compiled(rules=rules)).manifest
    route = Route(
        host="shop.localhost",
        kind=HostKind.PRODUCTION,
        project=PROJECT,
        project_name="shop",
        deployment=ID,
        manifest=store.add(encode(made)),
    )
    waiting = replace(route, host="new.localhost", deployment=None, manifest=None, waiting=State.BUILDING)
    routes = RouteTable()
    permalink = replace(route, host="shop-678901.localhost", kind=HostKind.PERMALINK)
    routes.apply(PROJECT, 1, [route, permalink, waiting])
    visits = Visits(routes, store, blobs=BlobCache(store, small_bytes=SMALL_BYTES), sites=SiteCache(store))
    server = web.Server(visits.answer, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    use.push_async_callback(runner.cleanup)
    place = web.TCPSite(runner, "127.0.0.1", 0)
    await place.start()
    served = Served(store, routes, server, runner.addresses[0][1])
    return Host(served, Explainer(visits.explain, control="localhost"))


def compare(got: Got, told: Explanation, method: str) -> None:
    """Everything that the visitor got is what was told."""
    assert got.status == told.status
    sent = {name: value for name, value in got.headers.items() if name not in ANSWERED}
    assert sent == {header.name: header.value for header in told.headers}
    assert all(header.by and header.why for header in told.headers)
    if method != "HEAD" and got.status not in (204, 304):
        assert len(got.body) == told.size_bytes
        assert told.sha256 in (None, hashlib.sha256(got.body).hexdigest())
        assert told.sha256 or got.status == 206
    assert told.because
    if named := re.match(r"((?:_redirects|_headers|vercel\.json):\d+)(: \w+)?$", told.because):
        assert any(step.matched and f"{step.file}:{step.line}" == named[1] for step in told.steps)


PLACES = st.builds(
    Place, file=st.sampled_from(["_redirects", "vercel.json"]), line=st.integers(1, 99), text=st.just("x")
)
PATTERNS = st.sampled_from([r"/(.*)", r"/docs/(?P<rest>.*)", r"/(?P<rest>[^/]+)", r"/a|/old", r"/api/(?P<rest>.*)"])
CONDITIONS = st.builds(
    Condition,
    of=st.sampled_from(["header", "cookie", "query"]),
    key=st.sampled_from(["x-a", "b"]),
    check=st.sampled_from(["exists", "eq", "neq", "inc", "pre", "gt"]),
    values=st.just(("1",)),
    capture=st.sampled_from(["", "seen"]),
) | st.sampled_from(
    [
        Condition(of="host", check="eq", values=("shop.localhost",)),
        Condition(of="language", values=("fr",)),
        Condition(of="header", key="x-a", check="re", values=(r"(?P<seen>\d+)",)),
    ]
)
CHANGES = st.builds(
    HeaderChange,
    name=st.sampled_from(["X-A", "X-B", "Cache-Control", "Vary", "Content-Type", "ETag", "Server", "x-robots-tag"]),
    value=st.sampled_from(["1", "public, max-age=60", "${rest}-${seen}", "text/plain"]),
    how=st.sampled_from(["set", "append", "remove"]),
)
TARGETS = st.sampled_from(
    ["", "", "/a", "/docs/${rest}", "/b.html", "/nothing", "/secret/x", "/new?q=${seen}", "//evil"]
)


@st.composite
def rules_of_a_turn(draw: st.DrawFn) -> tuple[Rule, ...]:
    return tuple(draw(st.lists(rule(), max_size=4)))


@st.composite
def rule(draw: st.DrawFn) -> Rule:
    by_path = draw(st.booleans())
    return Rule(
        place=draw(PLACES),
        path=f"/{draw(st.sampled_from(PATHS))}" if by_path else "",
        pattern="" if by_path else draw(PATTERNS),
        ignores_case=draw(st.booleans()),
        methods=draw(st.sampled_from([(), (), ("GET",), ("POST", "HEAD")])),
        has=tuple(draw(st.lists(CONDITIONS, max_size=2))),
        missing=tuple(draw(st.lists(CONDITIONS, max_size=1))),
        to=draw(TARGETS),
        status=draw(st.sampled_from([0, 0, 200, 301, 302, 308, 404, 410])),
        headers=tuple(draw(st.lists(CHANGES, max_size=2))),
        goes_on=draw(st.booleans()),
        tries=draw(st.booleans()),
        stops=draw(st.booleans()),
        forced=draw(st.booleans()),
        keeps_credentials=draw(st.booleans()),
        request_headers=draw(st.sampled_from([(), (("X-Key", "s3cret"),)])),
    )


@st.composite
def sites(draw: st.DrawFn) -> tuple[Rules, dict[str, bytes]]:
    files = {path: FILES[path] for path in draw(st.sets(st.sampled_from(sorted(FILES)), min_size=1))}
    guard = Protection(
        place=Place(file="_headers", line=1, text=f"Basic-Auth: ann:{PASSWORD}"),
        pattern="/secret/.*",
        users=(f"ann:{PASSWORD}",),
    )
    rules = Rules(
        dialect=draw(st.sampled_from(Dialect)),
        clean_urls=draw(st.booleans()),
        trailing_slash=draw(st.sampled_from([None, True, False])),
        pretty_urls=draw(st.booleans()),
        fallback=draw(st.sampled_from(["", *[path for path in files if path.endswith(".html")]])),
        first=draw(rules_of_a_turn()),
        missed=draw(rules_of_a_turn()),
        found=draw(rules_of_a_turn()),
        failed=draw(rules_of_a_turn()),
        protections=(guard,) if draw(st.booleans()) else (),
        places=tuple(Place(file="vercel.json", line=1, text=text) for text in ("cleanUrls", "trailingSlash")),
    )
    return rules, files


ETAG = f'"{hashlib.sha256(FILES["index.html"]).hexdigest()}"'
AUTHORIZED = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
HEADERS = st.lists(
    st.sampled_from(
        [
            ("X-A", "1"),
            ("X-A", "2"),
            ("Cookie", "b=1; x-a=2"),
            ("Accept", "text/html"),
            ("Accept-Language", "fr, en;q=0.5"),
            ("Accept-Encoding", "br"),
            ("Sec-Fetch-Mode", "navigate"),
            ("If-None-Match", ETAG),
            ("If-None-Match", "*"),
            ("Range", "bytes=0-3"),
            ("Range", "bytes=1-2,4-5"),
            ("Range", "bytes=9999999-"),
            ("Authorization", f"Basic {AUTHORIZED}"),
        ]
    ),
    max_size=3,
    unique_by=lambda pair: pair[0],
)
TARGETS_ASKED = st.builds(
    "/{}{}{}".format,
    st.sampled_from([*PATHS, *FILES, "", "nothing", "%", "%00", "..", "A", "docs/", "//a", "d\u00fcse", "x" * 5000]),
    st.sampled_from(["", "", "/"]),
    st.sampled_from(["", "", "?b=1", "?x-a=2&b"]),
)
METHODS = st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "OPTIONS"])
NAMES = st.sampled_from(
    ["shop.localhost"] * 4 + ["SHOP.localhost:80", "shop-678901.localhost", "new.localhost", "no.localhost"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(site=sites(), asked=st.lists(st.tuples(TARGETS_ASKED, METHODS, HEADERS, NAMES), min_size=1, max_size=5))
def test_what_is_explained_is_what_a_visitor_gets(site: tuple[Rules, dict[str, bytes]], asked: list[Any]) -> None:
    async def ask_all() -> None:
        async with AsyncExitStack() as use:
            host = await opened(use, *site, MemoryStore())
            for target, method, headers, name in asked:
                got, told = await host.both(target, method=method, headers=headers, host=name)
                compare(got, told, method)
                assert PASSWORD not in repr(told)
                assert "s3cret" not in repr(told)

    asyncio.run(ask_all())


async def explained(rules: Rules, target: str, **more: Any) -> Explanation:
    """Of a site of all FILES."""
    async with AsyncExitStack() as use:
        host = await opened(use, rules, FILES, MemoryStore())
        got, told = await host.both(target, **more)
        if told.proxied is None:
            compare(got, told, more.get("method", "GET"))
        return told


def placed(line: int, **wanted: Any) -> Rule:
    return Rule(place=Place(file="_redirects", line=line, text=f"rule {line}"), **wanted)


async def test_every_rule_that_was_tried_is_told_with_the_reason() -> None:
    rules = Rules(
        first=(
            placed(1, path="/other", to="/x", status=301),
            placed(2, path="/old", to="/x", status=301, has=(Condition(of="cookie", key="beta"),)),
            placed(3, path="/old", to="/new", status=302),
            placed(4, path="/old", to="/never", status=302),
        )
    )
    told = await explained(rules, "/old")
    assert [(step.line, step.matched, step.why) for step in told.steps] == [
        (1, False, "the path does not match"),
        (2, False, "cookie beta does not hold"),
        (3, True, "matches"),
    ]
    assert (told.status, told.because, told.project, told.deployment) == (302, "_redirects:3", "shop", ID)
    location = next(header for header in told.headers if header.name == "Location")
    assert (location.value, location.by) == ("/new", "_redirects:3")


async def test_each_header_is_told_with_who_set_it_took_it_away_or_tried_in_vain() -> None:
    changes = (
        HeaderChange(name="Cache-Control", value="public, max-age=3600"),
        HeaderChange(name="X-Content-Type-Options", how="remove"),
        HeaderChange(name="ETag", value="mine"),
    )
    told = await explained(Rules(found=(placed(7, pattern="/.*", headers=changes),)), "/a")
    by = {header.name: header.by for header in told.headers}
    assert by["Cache-Control"] == "_redirects:7"
    assert by["ETag"] == by["Content-Type"] == "Scale Mesh"
    assert {(header.name, header.by) for header in told.withheld} == {
        ("X-Content-Type-Options", "_redirects:7"),
        ("ETag", "_redirects:7"),
    }
    assert told.caching
    assert told.caching.says == "Browsers and caches may keep it for 1 hour."


@pytest.mark.parametrize(
    ("target", "headers", "file", "served_from", "same_for_all"),
    [
        ("/a", (), "a.html", "memory", True),
        ("/assets/index-BxYz12aB.js", (), "assets/index-BxYz12aB.js", "file", True),
        ("/empty.txt", (), "empty.txt", "nothing", True),
        ("/none", (), "404.html", "memory", True),
        ("/a", (("Range", "bytes=0-1"),), "a.html", "memory", True),
        ("/%", (), "", "made", False),
    ],
)
async def test_the_file_is_told_and_where_its_bytes_come_from(
    target: str, headers: Sequence[tuple[str, str]], file: str, served_from: str, same_for_all: bool
) -> None:
    told = await explained(Rules(), target, headers=headers)
    assert told.caching
    assert (told.file, told.caching.served_from, told.caching.same_for_all) == (file, served_from, same_for_all)


async def test_an_answer_that_a_header_decides_is_not_the_same_for_everybody() -> None:
    rules = Rules(first=(placed(1, path="/a", to="/fr", status=302, has=(Condition(of="language", values=("fr",)),)),))
    told = await explained(rules, "/a")
    assert told.caching
    assert not told.caching.same_for_all


async def test_a_rewrite_to_another_origin_is_told_and_nobody_there_is_asked() -> None:
    hello: list[object] = []

    async def origin(request: web.BaseRequest) -> web.Response:
        hello.append(request)
        return web.Response()

    async with AsyncExitStack() as use:
        runner = web.ServerRunner(web.Server(origin))
        await runner.setup()
        use.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        to = f"http://127.0.0.1:{runner.addresses[0][1]}/${{rest}}"
        away = placed(3, pattern="/api/(?P<rest>.*)", to=to, request_headers=(("X-Key", "s3cret"),))
        host = await opened(use, Rules(first=(away,)), FILES, MemoryStore())
        told = await host.explainer.explain("shop.localhost/api/users?page=2", method="POST")
    assert hello == []
    assert told.proxied
    assert told.proxied.url == to.replace("${rest}", "users?page=2")
    assert (told.status, told.because, told.proxied.request_headers) == (None, "_redirects:3", ("X-Key",))
    assert "s3cret" not in repr(told)


async def test_a_protected_path_is_told_without_its_passwords() -> None:
    place = Place(file="_headers", line=2, text=f"Basic-Auth: ann:{PASSWORD}")
    shown = placed(5, pattern="/.*", headers=(HeaderChange(name="X-A", value="1"),))
    rules = Rules(
        protections=(Protection(place=place, pattern="/secret/.*", users=(f"ann:{PASSWORD}",)),),
        found=(replace(shown, place=replace(place, line=1)),),
    )
    refused = await explained(rules, "/secret/x")
    assert (refused.status, refused.because) == (401, "_headers:2")
    assert [(step.line, step.matched) for step in refused.steps] == [(2, True)]
    entered = await explained(rules, "/secret/x", headers=[("Authorization", f"Basic {AUTHORIZED}")])
    assert entered.status == 200
    for told in (refused, entered):
        assert PASSWORD not in repr(told)
        assert AUTHORIZED not in repr(told)


@pytest.mark.parametrize(
    ("host", "leads_to", "status"),
    [
        ("nobody.localhost", "No site has the host nobody.localhost.", 404),
        ("new.localhost", "no deployment is ready: the newest one is building.", 503),
        ("shop-678901.localhost", "one deployment of the project shop, for ever", 200),
        ("shop.localhost:8080", "the production of the project shop", 200),
        ("not_a-host%", "No site has the host (none).", 404),
        ("localhost", "This is the control host", None),
        ("LOCALHOST.:80", "This is the control host", None),
    ],
)
async def test_it_is_told_where_the_host_leads(host: str, leads_to: str, status: int | None) -> None:
    async with AsyncExitStack() as use:
        explainer = (await opened(use, Rules(), FILES, MemoryStore())).explainer
        told = await explainer.explain(f"https://{host}/a")
    assert leads_to in told.leads_to
    assert told.status == status


async def test_a_store_that_is_away_is_explained_as_it_is_answered() -> None:
    async with AsyncExitStack() as use:
        store = Unreachable()
        host = await opened(use, Rules(), FILES, store)
        store.away = True
        got, told = await host.both("/a")
        compare(got, told, "GET")
    assert told.status == 503


async def test_of_thousands_of_rules_those_that_matter_are_told() -> None:
    many = tuple(placed(line, path=f"/p{line}", to="/x", status=301) for line in range(1, 2501))
    told = await explained(Rules(first=(*many, placed(2501, path="/old", to="/new", status=301))), "/old")
    assert (len(told.steps), told.steps_left_out) == (2001, 500)
    assert told.steps[-1].matched


async def test_a_setting_that_redirects_is_named_as_who_set_the_location() -> None:
    place = Place(file="vercel.json", line=3, text="cleanUrls")
    told = await explained(Rules(dialect=Dialect.VERCEL, clean_urls=True, places=(place,)), "/a.html")
    assert (told.status, told.because) == (308, "vercel.json:3: cleanUrls")
    assert next(header.by for header in told.headers if header.name == "Location") == "vercel.json:3"
