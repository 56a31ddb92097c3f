"""The Build Output API v3: config.json and what lies beside it."""

from typing import Any

import pytest

from scalemesh.services.rules.notes import RulesError
from scalemesh.services.rules.sources import CONFIG
from tests.unit.vercel_site import VercelSite, build_output, header, site_of, written

SITE = ("index.html", "about.html", "blog.html", "404.html", "assets/a.js")


def routed(*routes: dict[str, Any], **more: Any) -> VercelSite:
    return build_output(*SITE, routes=list(routes), **more)


def test_a_visitor_cannot_choose_the_host_of_a_route() -> None:
    site = routed({"src": "/go/(.*)", "status": 302, "headers": {"Location": "$1"}}, {"src": "/x/(.*)", "dest": "$1"})
    assert site.shown("/go/https://evil.example/") == "302 /https://evil.example/"
    assert site.shown("/x/about.html") == "about.html"
    assert site.answer("/x/https://evil.example/").status in (308, 404)


FILES: dict[str, Any] = {"handle": "filesystem"}


def test_a_route_redirects_by_its_location() -> None:
    site = routed({"src": "^/old/(?<rest>.*)$", "headers": {"Location": "/new/$rest/$1", "X-A": "1"}, "status": 308})
    assert site.shown("/old/a?b=c") == "308 /new/a/a?b=c"
    assert header(site.answer("/old/a"), "X-A") == "1"


def test_patterns_hold_for_the_whole_path_and_ignore_case_unless_they_say_so() -> None:
    loud = {"src": "/x", "status": 307, "headers": {"location": "/y"}}
    assert [routed(loud).answer(target).status for target in ("/x", "/X", "/xx", "/a/x")] == [307, 307, 404, 404]
    assert routed({**loud, "caseSensitive": True}).answer("/X").status == 404
    either = routed({**loud, "src": "^/a|/b$"})
    assert [either.answer(target).status for target in ("/a", "/axx", "/xx/b", "/xa")] == [307, 307, 307, 404]


def test_routes_that_continue_add_headers_and_change_the_path_for_those_behind() -> None:
    site = routed(
        {"src": "/(.*)", "headers": {"X-A": "1"}, "continue": True},
        {"src": "/en/(.*)", "dest": "/$1", "continue": True},
        {"src": "/about", "dest": "/about.html"},
    )
    assert site.shown("/en/about") == "about.html"
    assert header(site.answer("/en/about"), "X-A") == "1"


def test_a_route_before_files_outweighs_them_and_one_behind_does_not() -> None:
    everything = {"src": "/.*", "dest": "/index.html"}
    assert routed(everything).shown("/about.html") == "index.html"
    assert routed(FILES, everything).shown("/about.html") == "about.html"
    assert routed(FILES, everything).shown("/nothing") == "index.html"


def test_check_looks_for_a_file_and_goes_on_where_there_is_none() -> None:
    check = {"src": "/(.*)", "dest": "/$1.html", "check": True}
    last = {"src": "/(.*)", "dest": "/index.html"}
    assert routed(FILES, check, last).shown("/about") == "about.html"
    assert routed(FILES, check, last).shown("/nothing") == "index.html"
    assert routed(FILES, check).shown("/nothing") == "404"


def test_a_route_that_does_nothing_stops_its_phase() -> None:
    redirect = {"src": "/(.*)/", "status": 308, "headers": {"Location": "/$1"}}
    site = routed({"src": "^/\\.well-known(?:/.*)?$"}, redirect)
    assert site.answer("/.well-known/x/").status == 404
    assert site.shown("/x/") == "308 /x"


def test_a_status_without_a_destination_ends_the_visit_with_the_sites_own_page() -> None:
    error: list[dict[str, Any]] = [{"handle": "error"}, {"status": 404, "src": "^(?!/api).*$", "dest": "/404.html"}]
    gone = routed({"src": "/about.html", "status": 404}, FILES, {"src": "/gone", "status": 410}, *error)
    answer = gone.answer("/about.html")
    assert (answer.status, gone.file(answer)) == (404, "404.html")
    assert gone.answer("/gone").status == 410
    assert gone.file(gone.answer("/nothing")) == "404.html"


def test_headers_of_the_phase_hit_are_those_of_files_alone() -> None:
    cached = {"src": "/assets/(.*)", "headers": {"Cache-Control": "max-age=1"}, "continue": True}
    site = routed(FILES, {"handle": "hit"}, cached)
    assert header(site.answer("/assets/a.js"), "Cache-Control") == "max-age=1"
    assert header(site.answer("/assets/b.js"), "Cache-Control") == "no-store"


def test_phases_behind_files_are_tried_in_vercels_order() -> None:
    site = routed(
        FILES,
        {"handle": "resource"},
        {"src": "/.*", "status": 404},
        {"handle": "miss"},
        {"src": "/de/(.*)", "dest": "/$1", "check": True},
        {"handle": "rewrite"},
        {"src": "/about", "dest": "/about.html"},
    )
    assert site.shown("/de/about") == "about.html"
    assert site.shown("/else") == "404"


def test_methods_and_conditions_are_asked() -> None:
    rule = {"src": "/x", "dest": "https://api.example/$who", "methods": ["POST"]}
    site = routed({**rule, "has": [{"type": "header", "key": "X-A", "value": "(?<who>.*)"}]})
    assert site.forwarded("/x", "POST", headers={"x-a": "me"}) == "https://api.example/me"
    assert site.answer("/x", headers={"x-a": "me"}).status == 404
    assert site.answer("/x", "POST").status == 405


def test_overrides_move_files_and_give_them_types() -> None:
    overrides = {
        "blog.html": {"path": "blog"},
        "index.html": {"path": "index"},
        "404.html": {"path": "404"},
        "assets/a.js": {"contentType": "text/plain; charset=utf-8"},
    }
    site = build_output(*SITE, overrides=overrides)
    assert [site.shown(path) for path in ("/blog", "/blog/", "/blog.html", "/")] == ["blog", "blog", "404", "index"]
    assert header(site.answer("/blog"), "Content-Type") == "text/html; charset=utf-8"
    assert header(site.answer("/assets/a.js"), "Content-Type") == "text/plain; charset=utf-8"
    assert site.file(site.answer("/nothing")) == "404"


def test_a_path_that_climbs_moves_no_file() -> None:
    with pytest.raises(Exception, match="cannot be served"):
        build_output(*SITE, overrides={"blog.html": {"path": "../x"}})


def test_functions_and_what_else_is_not_served_are_named() -> None:
    site = build_output(
        *SITE,
        functions=("index", "api/hello"),
        routes=[
            {"src": "/.*", "middlewarePath": "middleware", "continue": True},
            {"src": "/", "locale": {"cookie": "L"}, "continue": True},
            {"src": "/about", "dest": "/about.html", "transforms": []},
            {"handle": "error"},
            {"src": "/.*", "dest": "/500", "status": 500},
        ],
        images={"sizes": [1]},
        wildcard=[{"domain": "a", "value": "b"}],
        cache=["x"],
        crons=[{"path": "/a", "schedule": "* * * * *"}],
        framework={"version": "1"},
    )
    told = "\n".join(site.notes)
    assert f"{CONFIG}:4: left out: `middlewarePath`: middleware is not run here" in told
    for words in ("left out: `locale`", "limited: `transforms`", "a page for this status is never shown"):
        assert words in told
    for name in ("images", "wildcard", "cache", "crons"):
        assert f"left out: `{name}`" in told
    assert "`framework`" not in told
    assert ".vercel/output/functions/api/hello.func: left out: the function /api/hello is not served" in told
    assert len(site.compiled.rules.first) == 1


def test_config_json_outweighs_vercel_json_and_says_so() -> None:
    mine = {"redirects": [{"source": "/x", "destination": "/y"}]}
    site = site_of(SITE, {CONFIG: written({"version": 3}), "vercel.json": written(mine)})
    assert site.answer("/x").status == 404
    assert site.notes == [f"vercel.json: left out: it is not read: {CONFIG} has the rules of this build."]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"version": 2}, f"{CONFIG}:2: refused: `version` is not 3"),
        ({"routes": {}}, "`routes` is no list"),
        ({"routes": [{"src": "/a"}] * 10_001}, "`routes` is no list of at most 10,000"),
        ({"routes": [{"dest": "/a"}]}, "a route has no `src`"),
        ({"routes": [{"src": "("}]}, "`src`: the pattern is badly written"),
        ({"routes": [{"src": "/" + "a" * 4096}]}, "4,097 characters"),
        ({"routes": [{"handle": "files"}]}, "`handle` is 'files'"),
        ({"routes": [FILES, FILES]}, "stands there twice"),
        ({"routes": [{"src": "/a", "status": "301"}]}, "`status` is 301"),
        ({"routes": [{"src": "/a", "methods": "GET"}]}, "`methods` is no list"),
        ({"routes": [{"src": "/a", "continue": 1}]}, "`continue` is neither"),
        ({"routes": [{"src": "/a", "headers": []}]}, "`headers` is no object"),
        ({"routes": [{"src": "/a", "dest": 1}]}, "`dest` is no text"),
        ({"routes": ["/a"]}, "a route is no object"),
        ({"routes": [{"src": "/a", "status": 301}]}, "a redirect leads nowhere"),
        ({"overrides": {"a": {"path": 1}}}, "the override of 'a'"),
        ({"overrides": []}, None),
    ],
)
def test_a_malformed_config_refuses_the_deployment(settings: dict[str, Any], told: str | None) -> None:
    files = {CONFIG: written({"version": 3, **settings})}
    if told is None:
        site_of(SITE, files)
        return
    with pytest.raises(RulesError) as error:
        site_of(SITE, files)
    assert told in str(error.value)
