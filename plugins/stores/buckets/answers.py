"""What S3 answers, read."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from xml.etree import ElementTree

_SPACE: Final = re.compile(r"\{[^}]*\}")
_MOST_MESSAGE: Final = 500


class AnsweredNo(Exception):  # noqa: N818 -- it is what happened, and never leaves the package
    """An answer that is no success."""

    def __init__(self, operation: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.operation, self.status = operation, status
        self.at = date_of(headers)
        told = _told(body)
        self.code = told.get("Code", "")
        self.message = told.get("Message", "")[:_MOST_MESSAGE]
        self.region = headers.get("x-amz-bucket-region", "") or told.get("Region", "")
        super().__init__(f"{operation}: {status} {self.code}: {self.message}")


class StrangeAnswer(Exception):  # noqa: N818 -- as above
    """An answer that S3 does not give: perhaps something else listens there."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object as the store tells of it."""

    key: str
    size_bytes: int
    etag: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list of objects, and what to ask for the rest with."""

    objects: list[Found]
    more: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload in parts that nobody has completed."""

    key: str
    upload: str
    at: datetime


@dataclass(frozen=True, slots=True)
class UnfinishedPage:
    """Part of a list of uploads in parts, and what to ask for the rest with: the last key and upload; None: no rest."""

    uploads: list[Unfinished]
    more: tuple[str, str] | None


def date_of(headers: Mapping[str, str]) -> datetime | None:
    """The server's clock."""
    try:
        return parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None


def tree(body: bytes) -> ElementTree.Element:
    """The document in *body*; StrangeAnswer where there is none."""
    try:
        return ElementTree.fromstring(body)  # noqa: S314 -- expat itself refuses entities that multiply
    except ElementTree.ParseError as error:
        raise StrangeAnswer(f"the answer is no XML: {error}") from error


def page_of(body: bytes) -> Page:
    """A list of objects. Raises StrangeAnswer."""
    try:
        return _page(body)
    except (KeyError, ValueError) as error:
        raise StrangeAnswer(f"the list of objects cannot be read: {error!r}") from error


def _page(body: bytes) -> Page:
    found, more = [], ""
    for item in _rooted("ListBucketResult", body):
        name = _bare(item)
        if name == "Contents":
            words = _words(item)
            size, at = int(words["Size"]), _time(words["LastModified"])
            found.append(Found(words["Key"], size, words.get("ETag", "").strip('"'), at))
        elif name == "NextContinuationToken":
            more = item.text or ""
    return Page(found, more)


def unfinished_of(body: bytes) -> UnfinishedPage:
    """A list of uploads in parts. Raises StrangeAnswer."""
    document = _rooted("ListMultipartUploadsResult", body)
    uploads, told = (_words(item) for item in document if _bare(item) == "Upload"), _words(document)
    more = (told.get("NextKeyMarker", ""), told.get("NextUploadIdMarker", ""))
    try:
        found = [Unfinished(words["Key"], words["UploadId"], _time(words["Initiated"])) for words in uploads]
        return UnfinishedPage(found, more if told.get("IsTruncated") == "true" and more[0] else None)
    except (KeyError, ValueError) as error:
        raise StrangeAnswer(f"the list of uploads cannot be read: {error!r}") from error


def words_of(body: bytes) -> dict[str, str]:
    """The texts of the document's own elements, by name; of none if there is no document."""
    return _told(body)


def errors_of(body: bytes) -> list[dict[str, str]]:
    """What could not be deleted of many."""
    return [_words(item) for item in tree(body) if _bare(item) == "Error"] if body else []


def is_error(body: bytes) -> bool:
    """Whether an answer that began as a success turned out to be none."""
    return bool(body) and _bare(tree(body)) == "Error"


def _rooted(name: str, body: bytes) -> ElementTree.Element:
    """The document, if it is what was asked for: anything else would pass for an empty list."""
    found = tree(body)
    if _bare(found) != name:
        raise StrangeAnswer(f"the answer is no {name} but {_bare(found)[:40]}")
    return found


def _told(body: bytes) -> dict[str, str]:
    try:
        return _words(tree(body))
    except StrangeAnswer:  # a proxy's page, or nothing
        return {}


def _words(item: ElementTree.Element) -> dict[str, str]:
    return dict(_pairs(item))


def _pairs(item: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for child in item:
        yield _bare(child), (child.text or "").strip()


def _bare(item: ElementTree.Element) -> str:
    return _SPACE.sub("", item.tag)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
