"""Which settings of the Docker executor are taken."""

from pathlib import Path

import pytest

from plugins.executors.docker import DockerConfig
from plugins.executors.docker.findings import of_elsewhere
from scalemesh import registry
from scalemesh.config import Plugin
from scalemesh.errors import ConfigError


@pytest.mark.parametrize("bridge", ["host", "none", "container:other"])
def test_a_network_that_is_not_the_builds_own_is_refused(bridge: str) -> None:
    """What is shut for a build would be shut for the machine itself, or for the other container."""
    with pytest.raises(ValueError, match="no network of its own"):
        DockerConfig(bridge=bridge)
    assert DockerConfig(bridge="builds").bridge == "builds"


def test_an_address_of_the_environment_is_held_to_the_same_as_one_of_the_config(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"host = 'ssh://builder': must begin with"):
        DockerConfig(host="ssh://builder")
    monkeypatch.setenv("DOCKER_HOST", "ssh://builder")
    with pytest.raises(ValueError, match=r"DOCKER_HOST, of the environment, = 'ssh://builder': must begin with"):
        DockerConfig()
    assert DockerConfig(host="tcp://builder:2376").engine == "tcp://builder:2376"


def test_files_for_tls_are_named_both_or_neither_and_never_by_nothing() -> None:
    with pytest.raises(ValueError, match="go together"):
        DockerConfig(host="tcp://builder:2376", tls_cert=Path("cert.pem"))
    with pytest.raises(ValueError, match="tls_ca is empty"):
        DockerConfig(host="tcp://builder:2376", tls_ca=Path())


def test_an_engine_that_is_reached_without_tls_is_told() -> None:
    (finding,) = of_elsewhere(DockerConfig(host="tcp://builder:2375"))
    assert "without TLS" in finding.what
    assert "tls_ca" in finding.fix
    assert of_elsewhere(DockerConfig(host="tcp://builder:2376", tls_ca=Path("ca.pem"))) == []


async def test_files_for_tls_count_from_the_data_folder(tmp_path: Path) -> None:
    settings: dict[str, object] = {"host": "tcp://127.0.0.1:9", "tls_ca": "ca.pem"}
    async with registry.open_plugin("executor", Plugin("docker", settings), tmp_path) as executor:
        (finding,) = await executor.check()
    assert not finding.ok
    assert "tls_ca" in finding.fix
    (tmp_path / "ca.pem").write_text("not yet a certificate")
    async with registry.open_plugin("executor", Plugin("docker", settings), tmp_path) as executor:
        (other,) = await executor.check()
    assert other.what != finding.what


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("build_network", "none", "builds.network"),
        ("allow_networks", ["10.0.0.0/8"], "builds.allow_networks"),
        ("file_root", "/", "git.file_root"),
        ("url", "https://elsewhere.example", "builds.public_url"),
        ("owner", "me", "the daemon itself"),
    ],
)
def test_what_other_tables_decide_is_no_setting_here(tmp_path: Path, name: str, value: object, where: str) -> None:
    with pytest.raises(ConfigError, match=rf"executor\.docker\.{name}: .*{where}"):
        registry.open_plugin("executor", Plugin("docker", {name: value}), tmp_path, {name: value})
