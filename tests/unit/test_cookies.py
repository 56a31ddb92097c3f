"""The session's cookie: each scheme knows its own name, and nobody slips in another's."""

import pytest
from aiohttp import web

from scalemesh.values import Secret
from scalemesh.web.cookies import PLAIN, SECURE, SessionCookie

HTTPS, HTTP = SessionCookie(is_secure=True), SessionCookie(is_secure=False)


def test_over_https_the_cookie_is_bound_to_the_host() -> None:
    response = web.Response()
    HTTPS.give(response, Secret("session"), lifetime_s=60)
    cookie = response.cookies["__Host-scalemesh"]
    assert (cookie.value, cookie["secure"], cookie["path"], cookie["domain"]) == ("session", True, "/", "")
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", "60")
    HTTPS.take(response)
    gone = response.cookies["__Host-scalemesh"]
    assert (gone.value, gone["max-age"], gone["secure"], gone["path"]) == ("", "0", True, "/")


def test_over_http_the_cookie_has_a_name_that_browsers_take() -> None:
    response = web.Response()
    HTTP.give(response, Secret("session"), lifetime_s=60)
    assert list(response.cookies) == [PLAIN]
    assert not response.cookies[PLAIN]["secure"]


@pytest.mark.parametrize("cookie", [HTTPS, HTTP])
def test_each_scheme_reads_its_own_name_alone(cookie: SessionCookie) -> None:
    other = SECURE if cookie is HTTP else PLAIN
    assert cookie.read([f"{other}=planted"]) is None
    assert cookie.read([f"{other}=planted; {cookie.name}=true"]) == "true"
    assert cookie.read([f"a=b; {cookie.name}=true; {other}=planted"]) == "true"
    assert cookie.read(["a=b", f"{cookie.name}=true"]) == "true"
    assert cookie.read([]) is None


@pytest.mark.parametrize(
    "planted",
    [
        "a=b __Host-scalemesh=planted",
        "a=b\t__Host-scalemesh=planted",
        "a=b, __Host-scalemesh=planted",
        "__host-scalemesh=planted",
        "__HOST-SCALEMESH=planted",
        "__Host-scalemesh =planted",
        "\x0b__Host-scalemesh=planted",
        "\x85__Host-scalemesh=planted",
        "\u2000__Host-scalemesh=planted",
        "\xa0__Host-scalemesh=planted",
        "$Version=1 __Host-scalemesh=planted",
        "x=__Host-scalemesh=planted",
        'x="',
        "=",
    ],
)
def test_nothing_that_a_neighbour_can_set_passes_for_the_session(planted: str) -> None:
    assert HTTPS.read([planted]) is None
    assert HTTPS.read([f"{planted}; {SECURE}=true"]) == "true"
    assert HTTPS.read([f'{SECURE}=true; {planted}; y="']) == "true"


@pytest.mark.parametrize("cookie", [HTTPS, HTTP])
def test_two_of_the_name_are_nobodys(cookie: SessionCookie) -> None:
    """One of them was planted, and nobody can tell which."""
    assert cookie.read([f"{cookie.name}=planted; {cookie.name}=true"]) is None
    assert cookie.read([f"{cookie.name}=planted", f"{cookie.name}=true"]) is None
