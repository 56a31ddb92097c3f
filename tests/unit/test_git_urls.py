"""Two spellings of one repository are one; two repositories are two."""

import pytest

from scalemesh.errors import InvalidError
from scalemesh.services.git_urls import canonical_git_url


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://GitHub.com/Someone/Site.git", "https://github.com/Someone/Site"),
        ("HTTPS://github.com:443/Someone/Site/", "https://github.com/Someone/Site"),
        ("https://user:secret@github.com/Someone/Site", "https://github.com/Someone/Site"),
        ("https://github.com./Someone/Site.git/#readme", "https://github.com/Someone/Site"),
        ("git@github.com:someone/site.git", "ssh://github.com/someone/site"),
        ("git@github.com:/someone/site.git", "ssh://github.com/someone/site"),
        ("ssh://git@github.com:22/someone/site", "ssh://github.com/someone/site"),
        ("ssh://git@host:2222/someone/site", "ssh://host:2222/someone/site"),
        ("git@[::1]:a/b", "ssh://[::1]/a/b"),
        ("https://[::1]:8443/a/b.git", "https://[::1]:8443/a/b"),
        ("/srv/git/hello.git", "file:///srv/git/hello"),
        ("file:///srv/git/hello.git/", "file:///srv/git/hello"),
    ],
)
def test_every_spelling_of_a_repository_is_the_same(url: str, canonical: str) -> None:
    assert canonical_git_url(url) == canonical
    assert canonical_git_url(canonical) == canonical


@pytest.mark.parametrize(
    "other", ["https://github.com/someone/site", "https://github.com/Someone/Site2", "http://github.com/Someone/Site"]
)
def test_different_repositories_stay_different(other: str) -> None:
    assert canonical_git_url(other) != canonical_git_url("https://github.com/Someone/Site")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "site",
        "https://",
        "https://host",
        "https:///path",
        "https://host:x/a",
        "file://host/a",
        "https://h/a b",
        "https://h/a\n",
        "https://h/" + "x" * 3000,
        "-u:x y",
        "https://[::1/a",
    ],
)
def test_what_is_no_git_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidError):
        canonical_git_url(url)


def test_a_refusal_never_shows_a_password() -> None:
    with pytest.raises(InvalidError) as caught:
        canonical_git_url("https://me:hunter2@host:notaport/a")
    assert "hunter2" not in str(caught.value)
