"""Who somebody is: welcome codes, passwords, sessions, tokens."""

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from scalemesh.config import Accounts as AccountSettings
from scalemesh.db import accounts as rows
from scalemesh.db.accounts import AccountRows
from scalemesh.db.database import Database
from scalemesh.errors import GoneError, InvalidError, NotFoundError, TooManyError, UnauthorizedError
from scalemesh.services.ids import new_id
from scalemesh.services.vault import hashed
from scalemesh.values import Secret, User, UserId

MIN_PASSWORD: Final = 10
MAX_PASSWORD: Final = 200
MAX_NAME: Final = 100
OWNER_NAME: Final = "owner"
MAX_CALLERS: Final = 10_000  #: whose tries are counted at a time
HASHING: Final = 2  #: at once: each takes 64 MiB, and strangers may ask for as many as they like


class Accounts:
    """One owner for now; every row has its user already."""

    def __init__(self, database: Database, settings: AccountSettings, *, now: Callable[[], datetime]) -> None:
        self._db, self._rows = database, AccountRows(database)
        self._settings, self._now = settings, now
        self._hasher = PasswordHasher()
        self._hashing = asyncio.Semaphore(HASHING)
        self._tries: OrderedDict[str, deque[datetime]] = OrderedDict()  # by caller, least recent first

    async def owner(self) -> User:
        """The owner's account, made at the first start."""
        if found := await self._rows.owner():
            return found
        user = User(id=UserId(new_id("usr")), name=OWNER_NAME, is_owner=True)
        async with self._db.transaction() as tx:
            return await rows.made_user(tx, user, self._now())

    async def welcome_code(self) -> Secret:
        """A fresh one-time code for the owner's first sign-in; earlier ones end."""
        code = Secret(secrets.token_urlsafe(24))
        owner, now = await self.owner(), self._now()
        expires_at = now + timedelta(minutes=self._settings.welcome_minutes)
        async with self._db.transaction() as tx:
            await rows.set_welcome(tx, owner.id, hashed(code), now=now, expires_at=expires_at)
        return code

    async def is_welcome(self, code: str) -> bool:
        """Whether the code would be taken; does not use it up."""
        return await self._rows.is_welcome(hashed(code), self._now())

    async def enter(self, code: str) -> Secret:
        """Use the code up for a new session.

        Raises:
            GoneError: it is unknown, used, or too old.
        """
        now = self._now()
        async with self._db.transaction() as tx:
            user = await rows.use_welcome(tx, hashed(code), now)
            if user is None:
                raise GoneError("that welcome link is used up or too old", fix="`scalemesh welcome` prints a new one")
            token, expires_at = Secret(secrets.token_urlsafe(32)), now + self.session_lifetime
            await rows.insert_session(tx, user, hashed(token), now=now, expires_at=expires_at)
        return token

    async def sign_in(self, name: str, password: str, *, caller: str = "") -> Secret:
        """A new session. Tries count for each *caller* apart, so that a stranger's do not keep the owner out.

        Raises:
            UnauthorizedError: wrong name or password, or none was set.
            TooManyError: too many tries of that caller within a minute.
        """
        self._count_try(caller)
        found = await self._rows.with_password(name[:MAX_NAME])
        stored = found[1] if found else None
        async with self._hashing:
            right = await asyncio.to_thread(self._fits, stored, password[:MAX_PASSWORD])
        if not (found and stored and right):
            raise UnauthorizedError(
                "name and password do not fit", fix="`scalemesh welcome` on the server prints a sign-in link"
            )
        self._tries.pop(caller, None)
        return await self.begin_session(found[0].id)

    async def begin_session(self, user: UserId) -> Secret:
        """A new session of *user*, who has proven to be that one."""
        now, token = self._now(), Secret(secrets.token_urlsafe(32))
        async with self._db.transaction() as tx:
            await rows.insert_session(tx, user, hashed(token), now=now, expires_at=now + self.session_lifetime)
        return token

    async def set_password(self, user: UserId, password: str) -> None:
        """Set it; every session of the user ends.

        Raises:
            InvalidError: too short or too long.
        """
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise InvalidError(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
        password_hash = await asyncio.to_thread(self._hasher.hash, password)
        async with self._db.transaction() as tx:
            await rows.set_password(tx, user, password_hash)

    async def of_session(self, token: str) -> User | None:
        return await self._rows.of_session(hashed(token), self._now())

    async def sign_out(self, token: str) -> None:
        """End that session. Repeatable."""
        async with self._db.transaction() as tx:
            await rows.delete_session(tx, hashed(token), self._now())

    async def of_token(self, token: str) -> User | None:
        return await self._rows.of_token(hashed(token))

    async def new_token(self, user: UserId, name: str) -> tuple[str, Secret]:
        """An API token: its id, and the secret, which is shown this once.

        Raises:
            InvalidError: the name is empty or too long.
        """
        if not 0 < len(name) <= MAX_NAME:
            raise InvalidError(f"a token's name has 1 to {MAX_NAME} characters")
        token, secret = new_id("tok"), Secret("smt_" + secrets.token_urlsafe(32))
        async with self._db.transaction() as tx:
            await rows.insert_token(tx, user, token, hashed(secret), name=name, now=self._now())
        return token, secret

    async def tokens(self, user: UserId) -> list[tuple[str, str, int]]:
        """Id, name and time of making (ms) of each."""
        return await self._rows.tokens(user)

    async def drop_token(self, user: UserId, token: str) -> None:
        """End an API token.

        Raises:
            NotFoundError: the user has no such token.
        """
        async with self._db.transaction() as tx:
            if not await rows.delete_token(tx, user, token):
                raise NotFoundError(f"no token {token!r}")

    @property
    def session_lifetime(self) -> timedelta:
        return timedelta(days=self._settings.session_days)

    def _count_try(self, caller: str) -> None:
        now, most = self._now(), self._settings.attempts_per_minute
        tries = self._tries.setdefault(caller, deque(maxlen=most))
        self._tries.move_to_end(caller)
        if len(self._tries) > MAX_CALLERS:
            self._tries.popitem(last=False)
        if len(tries) == most and now - tries[0] < timedelta(minutes=1):
            raise TooManyError(
                "too many tries to sign in", fix="wait a minute; `scalemesh welcome` on the server prints a way in"
            )
        tries.append(now)

    @cached_property
    def _nobody(self) -> str:
        """Checked for unknown names, so that they take as long as a known one."""
        return self._hasher.hash(secrets.token_hex())

    def _fits(self, stored: str | None, password: str) -> bool:
        try:
            return self._hasher.verify(stored or self._nobody, password)
        except (VerificationError, InvalidHashError):
            return False
