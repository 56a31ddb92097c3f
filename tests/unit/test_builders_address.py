"""Where builders outside this machine find the daemon."""

import pytest

from scalemesh.config import Builds


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
