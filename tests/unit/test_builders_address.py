"""Where builders outside this machine find the daemon."""

from pathlib import Path

import pytest

from scalemesh.config import Builds, Config, Hosts
from scalemesh.ports import Finding
from scalemesh.wiring import of_address


def test_without_a_listener_and_an_address_it_is_not_offered() -> None:
    assert Builds().url is None


def test_the_address_is_that_of_the_listener_unless_another_is_named() -> None:
    assert Builds(listen="172.17.0.1:8081").url == "http://172.17.0.1:8081"
    assert Builds(listen="[fd00::1]:8081").url == "http://[fd00::1]:8081"
    assert Builds(listen="[fd00::1]:8081").listen_address == ("fd00::1", 8081)
    both = Builds(listen="0.0.0.0:8081", public_url="https://builds.example.com")
    assert (both.url, both.listen_address) == ("https://builds.example.com", ("0.0.0.0", 8081))


@pytest.mark.parametrize("wrong", ["8081", "host:8081", "172.17.0.1", "172.17.0.1:0", "172.17.0.1:65536", ":8081", ""])
def test_what_is_no_address_and_port_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="must be an address and a port"):
        Builds(listen=wrong)


@pytest.mark.parametrize("everywhere", ["0.0.0.0:8081", "[::]:8081"])
def test_all_addresses_need_the_one_that_builders_use(everywhere: str) -> None:
    with pytest.raises(ValueError, match="public_url"):
        Builds(listen=everywhere)


def test_a_public_address_of_another_name_than_the_control_hosts_is_told(tmp_path: Path) -> None:
    def findings(public_url: str | None = None, listen: str | None = None) -> list[Finding]:
        builds = Builds(public_url=public_url, listen=listen)
        return of_address(Config(data_dir=tmp_path, hosts=Hosts(control="mesh.example.com"), builds=builds))

    assert findings() == []
    assert findings(public_url="https://mesh.example.com:8443/") == []
    assert findings(public_url="https://builds.example.com", listen="10.0.0.1:8081") == []
    [told] = findings(public_url="https://builds.example.com")
    assert (told.ok, "mesh.example.com" in told.what, "builds.listen" in told.fix) == (True, True, True)
