"""What no header rule may do, whatever its dialect: to other sites, to caches, or to what a body is."""

from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from scalemesh.edge.answers import Passage
from scalemesh.edge.origins.carried import to_visitor
from scalemesh.rules import Dialect
from tests.unit.dialects import Asked, brought
from tests.unit.vercel_site import build_output, header, vercel

ORIGIN = "https://other.example"


def netlify(headers: str, *paths: str, redirects: str = "") -> Asked:
    return brought(Dialect.NETLIFY, {"_headers": headers, "_redirects": redirects}, paths)


def everywhere(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"source": "/(.*)", "headers": [{"key": key, "value": value} for key, value in pairs]}]


def test_a_cookie_of_a_rule_stays_with_its_host_and_never_is_the_control_hosts() -> None:
    cookies = "/*\n  Set-Cookie: a=1; Domain=localhost; Path=/\n  Set-Cookie: scalemesh=planted\n  Set-Cookie: b=2\n"
    assert netlify(cookies, "file.html").ask("/file").headers["set-cookie"] == ["a=1; Path=/", "b=2"]


@pytest.mark.parametrize("sent", ["/;Domain=localhost", "/%3B%20Domain=localhost;", "/a;%20DOMAIN=x;domain=y"])
def test_a_visitor_who_writes_into_a_cookie_gives_it_no_domain(sent: str) -> None:
    asked = brought(Dialect.CLOUDFLARE, {"_headers": "/*\n  Set-Cookie: at=:splat\n"}, ("index.html",))
    (cookie,) = asked.ask(sent).headers["set-cookie"]
    assert cookie.startswith("at=")
    assert "domain" not in cookie.lower()


def test_a_cookie_of_a_rule_stays_with_its_host_on_proxied_answers_too() -> None:
    site = vercel(
        rewrites=[{"source": "/api", "destination": ORIGIN}],
        headers=everywhere(("Set-Cookie", "a=1; Domain=localhost")),
    )
    assert header(site.ask("/api"), "Set-Cookie") == "a=1"


def test_of_two_rules_for_a_header_the_later_one_counts_on_proxied_answers_too() -> None:
    headers = [*everywhere(("X-A", "1"), ("X-Content-Type-Options", "nosniff, really")), *everywhere(("x-a", "2"))]
    site = vercel(rewrites=[{"source": "/api", "destination": ORIGIN}], headers=headers)
    assert header(site.ask("/api"), "x-a") == "2"
    assert header(site.ask("/api"), "x-content-type-options") == "nosniff, really"


def test_a_rule_adds_to_what_another_origin_varies_by() -> None:
    site = vercel(rewrites=[{"source": "/api", "destination": ORIGIN}], headers=everywhere(("Vary", "X-Country")))
    passage = site.ask("/api")
    got = CIMultiDictProxy(CIMultiDict([("Vary", "Cookie"), ("Content-Type", "a/b")]))
    assert isinstance(passage, Passage)
    assert to_visitor(got, passage).getall("Vary") == ["Cookie", "X-Country"]


def test_a_rule_gives_a_type_to_files_and_never_to_what_only_we_can_name() -> None:
    others = [f"{number}.txt" for number in range(250)]  # the last file of the site is its longest
    site = vercel(*others, "a.txt", headers=everywhere(("Content-Type", "application/json")))
    assert header(site.answer("/a.txt"), "Content-Type") == "application/json"
    assert header(site.answer("/a.txt", range="bytes=0-9"), "Content-Type") == "application/json"
    several = site.answer("/a.txt", range="bytes=0-9,300-309")
    assert (header(several, "Content-Type") or "").startswith("multipart/byteranges; boundary=")
    for answer in (site.answer("/nothing"), site.answer("/a.txt", range="bytes=900-")):
        assert header(answer, "Content-Type") == "text/plain; charset=utf-8"


def test_a_missing_asset_never_answers_as_a_page_whatever_status_the_rule_says() -> None:
    for status, got in ((200, 404), (201, 404), (299, 404), (410, 410)):
        site = vercel("index.html", rewrites=[{"source": "/(.*)", "destination": "/index.html", "statusCode": status}])
        assert site.answer("/old.js").status == got
        assert site.answer("/view").status == status


def test_a_missing_asset_never_answers_as_a_page_that_has_no_extension() -> None:
    site = build_output(
        "app",
        overrides={"app": {"contentType": "text/html; charset=utf-8"}},
        routes=[{"handle": "filesystem"}, {"src": "/(.*)", "dest": "/app"}],
    )
    assert site.answer("/users").status == 200
    assert site.answer("/old.js").status == 404
    assert site.answer("/old.js", fetch_mode="navigate").status == 200


ORDERED = [
    ("X-Accel-Redirect", "/private/"),
    ("x-sendfile", "/etc/passwd"),
    ("X-Lighttpd-Send-File", "/etc/passwd"),
    ("Alt-Svc", "h2=evil.example"),
]


@pytest.mark.parametrize(("name", "value"), ORDERED)
def test_no_rule_gives_orders_to_a_server_in_front_of_us(name: str, value: str) -> None:
    by_vercel = vercel("file", headers=everywhere((name, value)))
    assert header(by_vercel.answer("/file"), name) is None
    by_route = build_output("file", routes=[{"src": "/file", "headers": {name: value}, "continue": True}])
    assert header(by_route.answer("/file"), name) is None
    by_line = netlify(f"/*\n  {name}: {value}\n", "file")
    assert by_line.ask("/file").one(name) is None
    for notes in (by_vercel.notes, by_route.notes, by_line.notes):
        assert len(notes) == 1
        assert name in notes[0]
