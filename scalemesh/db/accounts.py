"""Users, their sessions, tokens and welcome codes in the database. Only hashes of secrets are kept."""

import sqlite3
from datetime import datetime
from typing import Final

from scalemesh.db.columns import to_ms
from scalemesh.db.database import Database, Transaction
from scalemesh.values import User, UserId

OWNER: Final = "SELECT * FROM user WHERE is_owner ORDER BY created_at LIMIT 1"
BY_NAME: Final = "SELECT * FROM user WHERE name = :name"
BY_SESSION: Final = """
SELECT user.* FROM session JOIN user ON user.id = session.user_id
WHERE session.token_hash = :hash AND session.expires_at > :now
"""
BY_TOKEN: Final = "SELECT user.* FROM token JOIN user ON user.id = token.user_id WHERE token.token_hash = :hash"
WELCOME: Final = "SELECT user_id FROM welcome WHERE code_hash = :hash AND expires_at > :now"
INSERT_USER: Final = """
INSERT INTO user (id, name, is_owner, created_at) VALUES (:id, :name, :is_owner, :created_at)
ON CONFLICT (name) DO NOTHING
"""
SET_PASSWORD: Final = "UPDATE user SET password_hash = :password_hash WHERE id = :id"
DROP_WELCOMES: Final = "DELETE FROM welcome WHERE user_id = :user OR expires_at <= :now"
INSERT_WELCOME: Final = "INSERT INTO welcome (code_hash, user_id, expires_at) VALUES (:hash, :user, :expires_at)"
USE_WELCOME: Final = "DELETE FROM welcome WHERE code_hash = :hash AND expires_at > :now RETURNING user_id"
INSERT_SESSION: Final = """
INSERT INTO session (token_hash, user_id, created_at, expires_at) VALUES (:hash, :user, :now, :expires_at)
"""
DELETE_SESSION: Final = "DELETE FROM session WHERE token_hash = :hash OR expires_at <= :now"
DELETE_SESSIONS: Final = "DELETE FROM session WHERE user_id = :user"
INSERT_TOKEN: Final = """
INSERT INTO token (id, token_hash, user_id, name, created_at) VALUES (:id, :hash, :user, :name, :now)
"""
TOKENS: Final = "SELECT id, name, created_at FROM token WHERE user_id = :user ORDER BY created_at"
DELETE_TOKEN: Final = "DELETE FROM token WHERE id = :id AND user_id = :user"


class AccountRows:
    def __init__(self, database: Database) -> None:
        self._db = database

    async def owner(self) -> User | None:
        row = await self._db.one(OWNER)
        return read_user(row) if row else None

    async def with_password(self, name: str) -> tuple[User, str | None] | None:
        """The user of that name and the hash of the password."""
        row = await self._db.one(BY_NAME, {"name": name})
        return (read_user(row), row["password_hash"]) if row else None

    async def of_session(self, token_hash: str, now: datetime) -> User | None:
        row = await self._db.one(BY_SESSION, {"hash": token_hash, "now": to_ms(now)})
        return read_user(row) if row else None

    async def of_token(self, token_hash: str) -> User | None:
        row = await self._db.one(BY_TOKEN, {"hash": token_hash})
        return read_user(row) if row else None

    async def is_welcome(self, code_hash: str, now: datetime) -> bool:
        return await self._db.one(WELCOME, {"hash": code_hash, "now": to_ms(now)}) is not None

    async def tokens(self, user: UserId) -> list[tuple[str, str, int]]:
        """Id, name and time of making (ms) of each of the user's tokens."""
        rows = await self._db.all(TOKENS, {"user": user})
        return [(row["id"], row["name"], row["created_at"]) for row in rows]


async def made_user(tx: Transaction, user: User, now: datetime) -> User:
    """Add *user*; if one of that name was made meanwhile, that one."""
    params = {"id": user.id, "name": user.name, "is_owner": int(user.is_owner), "created_at": to_ms(now)}
    await tx.run(INSERT_USER, params)
    row = await tx.one(BY_NAME, {"name": user.name})
    return read_user(row) if row else user


async def set_password(tx: Transaction, user: UserId, password_hash: str) -> None:
    """Also ends every session of the user."""
    await tx.run(SET_PASSWORD, {"id": user, "password_hash": password_hash})
    await tx.run(DELETE_SESSIONS, {"user": user})


async def set_welcome(tx: Transaction, user: UserId, code_hash: str, *, now: datetime, expires_at: datetime) -> None:
    """Give out a new code; older ones of that user end."""
    await tx.run(DROP_WELCOMES, {"user": user, "now": to_ms(now)})
    await tx.run(INSERT_WELCOME, {"hash": code_hash, "user": user, "expires_at": to_ms(expires_at)})


async def use_welcome(tx: Transaction, code_hash: str, now: datetime) -> UserId | None:
    """Use the code up; None if it is unknown, used or too old."""
    row = await tx.one(USE_WELCOME, {"hash": code_hash, "now": to_ms(now)})
    return UserId(row["user_id"]) if row else None


async def insert_session(
    tx: Transaction, user: UserId, token_hash: str, *, now: datetime, expires_at: datetime
) -> None:
    params = {"hash": token_hash, "user": user, "now": to_ms(now), "expires_at": to_ms(expires_at)}
    await tx.run(INSERT_SESSION, params)


async def delete_session(tx: Transaction, token_hash: str, now: datetime) -> None:
    """End that session, and forget those that have run out."""
    await tx.run(DELETE_SESSION, {"hash": token_hash, "now": to_ms(now)})


async def insert_token(tx: Transaction, user: UserId, token: str, token_hash: str, *, name: str, now: datetime) -> None:
    """*token* is its id (tok_…), never the secret."""
    await tx.run(INSERT_TOKEN, {"id": token, "hash": token_hash, "user": user, "name": name, "now": to_ms(now)})


async def delete_token(tx: Transaction, user: UserId, token: str) -> bool:
    """True if there was one."""
    return bool(await tx.run(DELETE_TOKEN, {"id": token, "user": user}))


def read_user(row: sqlite3.Row) -> User:
    return User(id=UserId(row["id"]), name=row["name"], is_owner=bool(row["is_owner"]))
