"""Which daemon the command finds: options, then environment, then config files."""

from pathlib import Path

import pytest

from scalemesh.cli.main import run
from scalemesh.cli.server import Place, admin_socket
from scalemesh.client import Server
from scalemesh.errors import ConfigError

VARIABLES = ("SCALEMESH_URL", "SCALEMESH_SOCKET", "SCALEMESH_TOKEN", "SCALEMESH_CONFIG")


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and an environment that names no daemon."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config_in(folder: Path, text: str = 'data_dir = "data"\n') -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_options_outweigh_everything(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_in(bare / ".scalemesh")
    monkeypatch.setenv("SCALEMESH_URL", "https://env.example")
    monkeypatch.setenv("SCALEMESH_TOKEN", "smt_env")
    assert Place(url="https://a.example").server() == Server(url="https://a.example", token="smt_env")
    assert Place(socket="/x.sock").server().socket == Path("/x.sock")
    named = config_in(bare / "other")
    assert Place(config=str(named)).server().socket == bare / "other/data/run/admin.sock"


def test_the_environment_outweighs_a_config_that_is_just_there(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_in(bare / ".scalemesh")
    monkeypatch.setenv("SCALEMESH_SOCKET", "/env.sock")
    assert Place().server() == Server(socket=Path("/env.sock"))
    monkeypatch.setenv("SCALEMESH_URL", "https://env.example")
    assert Place().server() == Server(url="https://env.example")


def test_a_demo_in_this_folder_is_found(bare: Path) -> None:
    config_in(bare / ".scalemesh")
    assert Place().server() == Server(socket=bare / ".scalemesh/data/run/admin.sock")


def test_without_any_hint_it_says_where_it_looked() -> None:
    if Path("/etc/scalemesh/config.toml").exists():
        pytest.skip("this machine has a daemon of its own")
    with pytest.raises(ConfigError, match="no config file") as caught:
        Place().server()
    assert "/etc/scalemesh/config.toml" in caught.value.why


def test_a_config_with_secrets_of_the_daemons_environment_still_leads_to_its_socket(bare: Path) -> None:
    path = config_in(bare, 'data_dir = "/var/lib/sm"\n[store.s3]\nsecret = "${NOT_HERE}"\n')
    assert admin_socket(path) == Path("/var/lib/sm/run/admin.sock")


def test_a_config_that_cannot_be_read_is_a_clear_error(bare: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        admin_socket(bare / "missing.toml")
    with pytest.raises(ConfigError, match="is not TOML"):
        admin_socket(config_in(bare, "= 1"))


@pytest.mark.parametrize(
    "arguments", [["--socket", "{}", "status"], ["status", "--socket", "{}"]], ids=["group", "verb"]
)
def test_where_the_daemon_is_may_stand_before_the_verb_or_behind_it(
    bare: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    socket = str(bare / "nobody.sock")
    assert run([word.format(socket) for word in arguments]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert f"no daemon answers at {socket}" in told.err
    assert "fix: start it with" in told.err
