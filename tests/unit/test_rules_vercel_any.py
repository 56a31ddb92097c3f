"""Any vercel.json at all: it is refused, or every visit is answered."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scalemesh.edge.answers import Answer
from scalemesh.services.rules.notes import RulesError
from tests.unit.vercel_site import site_of, written

SITE = ("index.html", "about.html", "blog/index.html", "a.js", "404.html")
PIECES = ("a", "/", "/:x", "/(.*)", "/:y*", "(b|c)", "{-:z}?", "\\.", ".html", "é", "/((?!a).*)", "/about", "/blog")
TARGETS = ("a", "/", "/:x", "$1", ":x", "?q=:x", "#h", "$q", "é", "%20", ".html", "/about", "/blog", "\\", "//", ":0")
ODD = ("*", "(", ")", "[", "\\", "{", ":", "?", "\n", "$", "+", "(a+)+b")


def text_of(pieces: tuple[str, ...], odd: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Mostly what could be written, now and then what could not."""
    fitting = st.lists(st.sampled_from(pieces), min_size=1, max_size=4)
    return fitting.map("".join).map(lambda text: f"/{text}".replace("//", "/")) | st.sampled_from(odd or pieces)


SOURCES = text_of(PIECES, (*PIECES, *ODD))
DESTINATIONS = text_of(TARGETS) | st.sampled_from(["https://$1.e.example/$1?a=$1", "https://e.example:8080/:x"])
JUNK: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers(-1, 600) | st.just([]) | st.just({}) | st.sampled_from(ODD)
)
VALUES = st.sampled_from(["(?<q>.*)", "a", "", "(", ".+"]) | st.fixed_dictionaries({"pre": st.just("a")})
KINDS = st.sampled_from(["host", "header", "cookie", "query"])
CONDITION = st.fixed_dictionaries({"type": KINDS, "key": st.sampled_from(["q", "X-A"])}, optional={"value": VALUES})
CONDITIONS = {"has": st.lists(CONDITION, max_size=2), "missing": st.lists(CONDITION, max_size=1)}
CODES = {"statusCode": st.sampled_from([301, 308])}
RULE = st.fixed_dictionaries({"source": SOURCES, "destination": DESTINATIONS}, optional={**CONDITIONS, **CODES})
REWRITE = st.fixed_dictionaries({"source": SOURCES, "destination": DESTINATIONS}, optional=CONDITIONS)
HEADER = st.fixed_dictionaries({"key": st.sampled_from(["X-A", "Vary", "Age", "a b", "é"]), "value": DESTINATIONS})
HEADERS = st.fixed_dictionaries({"source": SOURCES, "headers": st.lists(HEADER, max_size=2)})
ROUTE = st.fixed_dictionaries(
    {"src": text_of(("/(.*)", "/a", "/(?<n>b)", "^", "$", "|", "/about"), ODD)},
    optional={
        "dest": text_of(("/$1", "/$n", "$", "/about.html")),
        "status": st.sampled_from([301, 404, 410]),
        "continue": st.booleans(),
        "check": st.booleans(),
        "headers": st.dictionaries(st.sampled_from(["Location", "X-B"]), DESTINATIONS, max_size=2),
    },
)
PHASE = st.sampled_from([{"handle": phase} for phase in ("filesystem", "miss", "rewrite", "hit", "error")])
SETTINGS = {
    "cleanUrls": st.booleans(),
    "trailingSlash": st.booleans(),
    "redirects": st.lists(RULE, max_size=2),
    "rewrites": st.lists(REWRITE, max_size=2),
    "headers": st.lists(HEADERS, max_size=2),
}
FILES = (
    st.fixed_dictionaries({}, optional=SETTINGS)
    | st.fixed_dictionaries({"routes": st.lists(ROUTE | PHASE, max_size=5)})
    | st.fixed_dictionaries({}, optional=dict.fromkeys(SETTINGS, JUNK | st.lists(JUNK, max_size=2)))
)


@given(FILES, st.lists(text_of(("a", "/", ".html", "/about", "//", "%20", "é", "?q=a", "&b")), max_size=4))
def test_whatever_the_file_says_it_is_refused_or_every_visit_is_answered(
    settings: dict[str, Any], targets: list[str]
) -> None:
    try:
        site = site_of(SITE, {"vercel.json": written(settings)})
    except RulesError:
        return
    for target in (*targets, "/", "/about", "/blog/", "/about.html", "/a/b?q=1"):
        for method in ("GET", "POST"):
            answer = site.ask(target, method, headers={"x-a": "a", "cookie": "q=1"})
            headers = answer.headers if isinstance(answer, Answer) else answer.answer_headers
            assert not any("\n" in value or "\r" in value for _, value in headers)
            if isinstance(answer, Answer) and 300 <= answer.status < 400:
                location = dict(headers)["Location"]
                assert location.startswith(("/", "https://")), location
                assert not location.startswith(("//", "/\\")), location
