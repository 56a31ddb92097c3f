"""Whose word is needed for what concerns everybody's sites."""

import pytest
from aiohttp.test_utils import make_mocked_request

from scalemesh.errors import ForbiddenError, UnauthorizedError
from scalemesh.values import User, UserId
from scalemesh.web.auth import USER, owning


def test_the_owner_alone_may() -> None:
    request = make_mocked_request("POST", "/api/v1/chores")
    with pytest.raises(UnauthorizedError):
        owning(request)
    for is_owner in (False, True):
        request[USER] = user = User(id=UserId("usr_a"), name="a", is_owner=is_owner)
        if is_owner:
            assert owning(request) is user
        else:
            with pytest.raises(ForbiddenError, match="only the owner"):
                owning(request)
