"""Which settings of the Docker executor are taken."""

import pytest

from plugins.executors.docker import DockerConfig


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
