"""Host labels: valid, and never one for two owners."""

import re
from itertools import islice

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from scalemesh.errors import InvalidError
from scalemesh.services import hosts
from scalemesh.values import DeploymentId

LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

# Pieces that the three kinds of label are made of: collisions are looked for where they could be.
PIECES = st.sampled_from(["a", "b", "git", "xn", "main", "abcdef", "abc123", "0a1b2c", "-", "-git-", "-git", "site"])
NAMES = st.lists(PIECES, min_size=1, max_size=6).map("".join) | st.text("abgit-", min_size=1, max_size=40)


def is_name(name: str) -> bool:
    try:
        hosts.check_project_name(name)
    except InvalidError:
        return False
    return True


PROJECTS = NAMES.filter(is_name)
IDS = st.text("abcdef0123", min_size=20, max_size=20).map(lambda tail: DeploymentId(f"dpl_{tail}"))
BRANCHES = (
    st.lists(PIECES | st.sampled_from(["/", "_", "é", "A", "🙂"]), min_size=1, max_size=6).map("".join)
    | st.text(min_size=1, max_size=80)
    | st.text("ab", min_size=50, max_size=80)
)
OWNERS = st.one_of(
    st.tuples(st.just("production"), PROJECTS, st.just("")),
    st.tuples(st.just("branch"), PROJECTS, BRANCHES),
    st.tuples(st.just("permalink"), PROJECTS, IDS),
)


def label_of(owner: tuple[str, str, str]) -> str:
    kind, project, what = owner
    if kind == "production":
        return hosts.production_label(project)
    if kind == "branch":
        return hosts.branch_label(project, what)
    return hosts.permalink_label(project, DeploymentId(what))


@given(OWNERS, OWNERS)
@example(("branch", "a", "Foo"), ("branch", "a", "foo-" + "1cbec7"))
@example(("branch", "a", "feature/x"), ("branch", "a", "feature-x"))
@example(("permalink", "a-git", "dpl_00000000000000abcdef"), ("branch", "a", "abcdef"))
@example(("production", "a-abcdef", ""), ("permalink", "a", "dpl_00000000000000abcdef"))
@example(("production", "a-git-b", ""), ("branch", "a", "b"))
def test_no_two_owners_ever_share_a_host(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assume(one != other and is_name(one[1]) and is_name(other[1]))
    assume(one[:2] != other[:2] or one[0] != "permalink" or one[2][-6:] != other[2][-6:])  # ids share six characters
    assert label_of(one) != label_of(other)


@given(OWNERS)
def test_every_label_is_one_that_dns_allows(owner: tuple[str, str, str]) -> None:
    label = label_of(owner)
    assert LABEL.fullmatch(label)
    assert label[2:4] != "--"
    assert hosts.normal_host(f"{label}.localhost") == f"{label}.localhost"


def test_a_branch_that_fits_is_its_own_slug() -> None:
    assert hosts.branch_label("shop", "main") == "shop-git-main"


def test_a_branch_that_is_changed_or_cut_carries_its_hash() -> None:
    assert re.fullmatch(r"shop-git-feature-login-[0-9a-f]{6}", hosts.branch_label("shop", "feature/login"))
    cut = hosts.branch_label("shop", "x" * 200)
    assert re.fullmatch(r"shop-git-x+-[0-9a-f]{6}", cut)
    assert len(cut) == 63


def test_a_branch_without_a_usable_letter_is_its_hash() -> None:
    assert re.fullmatch(r"shop-git-[0-9a-f]{6}", hosts.branch_label("shop", "🙂"))


def test_a_branch_that_looks_hashed_is_hashed_again() -> None:
    assert hosts.branch_label("shop", "fix-abc123") != "shop-git-fix-abc123"


def test_the_longest_project_name_leaves_room_for_a_branch() -> None:
    assert len(hosts.branch_label("p" * hosts.MAX_PROJECT_NAME, "feature/" + "y" * 100)) == 63


def test_a_permalink_ends_in_the_last_six_characters_of_the_id() -> None:
    assert hosts.permalink_label("shop", DeploymentId("dpl_aaaaaaaaaaaaaa234567")) == "shop-234567"


def test_what_is_no_deployment_id_has_no_permalink() -> None:
    with pytest.raises(InvalidError):
        hosts.permalink_label("shop", DeploymentId("dpl_../../x.y"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        "A",
        "a_b",
        "a.b",
        "a b",
        "é",
        "www",
        "api",
        "localhost",
        "control",
        "xn--p1ai",
        "ab--c",
        "a-git-b",
        "a-git",
        "shop-abc123",
        "my-portal",
        "x" * 41,
        "a\n",
        "a/b",
    ],
)
def test_a_name_that_could_be_taken_for_another_host_is_refused_with_a_fix(name: str) -> None:
    with pytest.raises(InvalidError) as caught:
        hosts.check_project_name(name)
    assert caught.value.what
    assert caught.value.why
    suggested = caught.value.fix.rsplit(" ", 1)[1]
    assert hosts.check_project_name(suggested) == suggested


@pytest.mark.parametrize("name", ["a", "their-site", "shop2", "git-tools", "x" * 40, "0", "a-abcde", "a-abcdefg"])
def test_an_ordinary_name_is_taken_as_it_is(name: str) -> None:
    assert hosts.check_project_name(name) == name


def test_an_operator_may_reserve_words_too() -> None:
    with pytest.raises(InvalidError):
        hosts.check_project_name("deploy", reserved={"deploy"})


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://github.com/someone/their-site.git", "their-site"),
        ("https://github.com/someone/Their_Site/", "their-site"),
        ("git@github.com:someone/shop.git", "shop"),
        ("git@host:shop", "shop"),
        ("/srv/git/hello.git", "hello"),
        ("file:///srv/git/hello.git/", "hello"),
        ("https://h/a/my-portal.git", "my-portal-site"),
        ("https://h/a/my-git-tool", "my-tool"),
        ("https://h/a/app-git", "app-site"),
        ("https://h/a/www", "www-site"),
        ("https://h/a/Ünïcode", "unicode"),
        ("https://h/a/🙂", "site"),
        ("https://h/a/" + "x" * 100, "x" * 40),
        ("https://h/a/shop.git?x=1#y", "shop"),
    ],
)
def test_a_project_is_named_after_the_last_part_of_its_url(url: str, name: str) -> None:
    assert hosts.name_from_git_url(url) == name


@given(st.text(max_size=300) | st.lists(PIECES | st.just("/"), max_size=40).map("".join))
def test_every_url_gives_a_valid_name(url: str) -> None:
    name = hosts.name_from_git_url(url)
    assert hosts.check_project_name(name) == name


@given(PROJECTS)
def test_there_is_always_another_name(name: str) -> None:
    some = list(islice(hosts.names_after(name), 12))
    assert some[0] == name
    assert len(set(some)) == 12
    assert all(is_name(candidate) for candidate in some)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("Shop.LOCALHOST:8080", "shop.localhost"),
        ("shop.localhost.", "shop.localhost"),
        ("shop.localhost.:80", "shop.localhost"),
        ("shop.localhost:", "shop.localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8080", "[::1]"),
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("a_b.example.com", "a_b.example.com"),
        *[(bad, None) for bad in ("", ".", "a..b", "a b", " a", "user@host", "a/b", "a\\b", "a:b", "a:99999", "a:1:2")],
        *[(bad, None) for bad in ("::1", "[::1", "[::1]x", "[::1%25eth0]", "[1.2.3.4]", "[]", "-a.b", "a-.b", "é.b")],
        *[(bad, None) for bad in ("x" * 64, ".".join(["x" * 60] * 5), "a..", "a:+1", "a:１", "a\x00", "a%00", "a,b")],
    ],
)
def test_a_host_header_is_read_strictly(header: str, host: str | None) -> None:
    assert hosts.normal_host(header) == host


@given(st.text())
def test_a_normal_host_is_normal(header: str) -> None:
    host = hosts.normal_host(header)
    assert host is None or hosts.normal_host(host) == host


def test_a_domain_is_kept_as_routes_write_it() -> None:
    assert hosts.check_domain("WWW.Example.com.", base="localhost") == "www.example.com"


@pytest.mark.parametrize(
    "host",
    ["example", "1.2.3.4", "[::1]", "a.localhost", "localhost", "a.com:80", "http://a.com", "a b.com", "", "_x.a.com"],
)
def test_what_a_project_must_not_claim_is_refused(host: str) -> None:
    with pytest.raises(InvalidError):
        hosts.check_domain(host, base="localhost")
