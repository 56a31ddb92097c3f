"""Secrets at rest, and the tokens of builds."""

from pathlib import Path

import pytest

from scalemesh.errors import ConfigError, UnauthorizedError
from scalemesh.services.vault import KEY_BYTES, BuildTokens, Vault, load_key
from scalemesh.values import DeploymentId

KEY = bytes(range(KEY_BYTES))
DEPLOYMENT = DeploymentId("dpl_abcdefghijklmnopqrst")


def test_what_was_sealed_comes_back() -> None:
    sealed = Vault(KEY).seal("hunter22", "prj_a", "production", "TOKEN")
    assert b"hunter22" not in sealed
    assert Vault(KEY).unseal(sealed, "prj_a", "production", "TOKEN") == "hunter22"


def test_sealing_twice_makes_two_different_things() -> None:
    assert Vault(KEY).seal("x", "a") != Vault(KEY).seal("x", "a")


@pytest.mark.parametrize("place", [("prj_b", "production", "TOKEN"), ("prj_a", "preview", "TOKEN"), ("prj_a",)])
def test_a_sealed_value_moved_to_another_place_cannot_be_read(place: tuple[str, ...]) -> None:
    sealed = Vault(KEY).seal("hunter22", "prj_a", "production", "TOKEN")
    with pytest.raises(ConfigError, match="cannot be read"):
        Vault(KEY).unseal(sealed, *place)


def test_another_key_reads_nothing() -> None:
    with pytest.raises(ConfigError):
        Vault(bytes(KEY_BYTES)).unseal(Vault(KEY).seal("x", "a"), "a")


def test_a_token_says_whose_it_is() -> None:
    assert BuildTokens(KEY, lifetime_s=60).read(BuildTokens(KEY, lifetime_s=60).make(DEPLOYMENT, 2)) == (DEPLOYMENT, 2)


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-1], lambda t: t + "x", lambda t: "", lambda t: t.swapcase()],
    ids=["cut", "longer", "empty", "case"],
)
def test_a_changed_token_is_nobodys(change) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnauthorizedError):
        BuildTokens(KEY, lifetime_s=60).read(change(BuildTokens(KEY, lifetime_s=60).make(DEPLOYMENT, 1)))


def test_a_token_of_another_key_or_too_old_is_nobodys() -> None:
    token = BuildTokens(KEY, lifetime_s=60).make(DEPLOYMENT, 1)
    with pytest.raises(UnauthorizedError):
        BuildTokens(bytes(KEY_BYTES), lifetime_s=60).read(token)
    with pytest.raises(UnauthorizedError):
        BuildTokens(KEY, lifetime_s=-1).read(token)


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "key"
    assert load_key(path) == load_key(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_key_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(ConfigError, match="damaged"):
        load_key(tmp_path / "key")
