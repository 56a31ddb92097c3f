"""Set-Cookie in answers of sites, whoever wrote it: it stays with the one host that was visited."""

from typing import Final

OWN: Final = frozenset({"scalemesh", "__host-scalemesh"})  #: of the control host; no site sets one


def host_only(cookie: str) -> str | None:
    """*cookie* (of Set-Cookie) without its Domain.

    With a Domain, a site could set cookies for every site below our base, and for the control host. None where
    the cookie has a name of the control host's own.
    """
    pair, *attributes = cookie.split(";")
    if pair.lstrip(" \t=").partition("=")[0].strip().lower() in OWN:
        return None
    return ";".join([pair, *(one for one in attributes if not is_domain(one))])


def is_domain(attribute: str) -> bool:
    """Whether an attribute of a cookie names its Domain."""
    return attribute.partition("=")[0].strip().lower() == "domain"
