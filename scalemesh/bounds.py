"""What single settings must be: numbers within bounds, addresses, networks, names. No I/O."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from urllib.parse import urlsplit


def check_url(name: str, value: str | None) -> None:
    """Raise ValueError unless *value* is an http(s) URL with a host, or None."""
    if value is None:
        return
    if not value.startswith(("http://", "https://")):
        raise ValueError(f"{name} = {value!r}: must begin with http:// or https://")
    try:
        is_url = bool(urlsplit(value).hostname and urlsplit(value).port != 0)
    except ValueError:  # a port that is none, a bracket too few
        is_url = False
    if not is_url:
        raise ValueError(f"{name} = {value!r}: must be a URL with a host, like https://example.com")


def check_network(name: str, value: str) -> None:
    """Raise ValueError unless *value* is a network."""
    try:
        ip_network(value)
    except ValueError as error:
        raise ValueError(f"{name}: {value!r} must be a network like 10.1.0.0/16 or fd00::/8 ({error})") from None


def check_host(name: str, host: str) -> None:
    """Raise ValueError unless *host* is a host name in lower case, or ``*.`` and one."""
    plain = host.removeprefix("*.")
    if not plain or plain != plain.lower() or any(sign in plain for sign in "*/:@ ") or plain.startswith("."):
        raise ValueError(f"{name}: {host!r} must be a host like cdn.example.com, or *.example.com for all below it")


def within(name: str, value: int, low: int, high: int) -> None:
    """Raise ValueError unless *low* <= *value* <= *high*."""
    if not low <= value <= high:
        raise ValueError(f"{name} = {value}: must be {low} to {high}")


def listen_address(name: str, value: str) -> tuple[str, int]:
    """Address and port of *value*, like ``172.17.0.1:8081`` or ``[fd00::1]:8081``.

    Raises:
        ValueError: it is none.
    """
    host, _, port = value.rpartition(":")
    try:
        address = str(ip_address(host.strip("[]")))
        number = int(port)
        within("port", number, 1, 65535)
    except ValueError as error:
        raise ValueError(f"{name} = {value!r}: must be an address and a port, like 172.17.0.1:8081") from error
    return address, number


def proxy_network(text: str) -> IPv4Network | IPv6Network:
    """One entry of ``hosts.trusted_proxies``; a single address is a network of one.

    Raises:
        ValueError: it is neither, or would make everybody a proxy.
    """
    try:
        found = ip_network(text)
    except ValueError:
        raise ValueError(f"must be an address or a network{_nearest_network(text)}") from None
    if not found.prefixlen:
        raise ValueError("must leave somebody out: whoever is believed can pass for any visitor")
    if found.version == 6 and (mapped := found.network_address.ipv4_mapped):
        raise ValueError(f"must be written as IPv4, like {mapped}")
    return found


def _nearest_network(text: str) -> str:
    try:
        return f", like {ip_interface(text).network}"
    except ValueError:
        return ', like "10.0.0.5" or "10.0.0.0/8"'
