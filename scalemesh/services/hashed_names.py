"""Says which files may be cached for ever: a framework vouches for the place, and the name carries a hash."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_HEX: Final = re.compile(r"(?=.*[0-9])(?=.*[a-f])[0-9a-f]{8,64}")
#: Sizes, lower-case words, and words that could be spoken: of random names about two in a hundred look like that.
_WORD: Final = re.compile(
    r"[0-9]+(?:x[0-9]+)?|[a-z]+[0-9]{0,2}"
    r"|(?:[A-Z]{2,4}(?![a-z]))?(?:[b-df-hj-np-tv-z]{0,2}[aeiouy][a-z]*)?"
    r"(?:(?:[AEIOUY]|[A-Z][chklmnprtw]?[aeiouy])[a-z]*)*[0-9]{0,2}"
)
_LONG: Final = 32  #: digits of a directory's name that is a hash, as Gatsby makes them
_SHORT: Final = 8  #: what rollup, esbuild and their users cut their hashes to

_GLOB: Final = re.compile(r"<hash>|\*\*/?|\*|\?")
_MEANING: Final = {
    "<hash>": r"[A-Za-z0-9_-]+",
    "**/": r"(?:[^/]+/)*",
    "**": r".*",
    "*": r"[^/]*",
    "?": r"[^/]",
}


def immutable_test(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A test for paths, from a framework's globs: ``*`` stays in one directory, ``**`` does not.

    A pattern that ends in a slash means everything below it; ``<hash>`` stands where the hash is. A path passes
    only if its file name carries a hash besides: a wrong yes would be kept by browsers for a year, a wrong
    no costs one question.
    """
    tests = [re.compile(_translated(pattern)) for pattern in patterns]
    return lambda path: any(test.fullmatch(path) for test in tests) and carries_hash(path)


def _translated(pattern: str) -> str:
    pattern = pattern.lstrip("/") + ("**" if pattern.endswith("/") else "")
    regex, end = "", 0
    for wild in _GLOB.finditer(pattern):
        regex += re.escape(pattern[end : wild.start()]) + _MEANING[wild[0]]
        end = wild.end()
    return regex + re.escape(pattern[end:])


def carries_hash(path: str) -> bool:
    """Whether *path* holds a part that no person would have written: in the file name, or a directory all of hash."""
    *directories, name = path.split("/")
    if any(len(directory) >= _LONG and _HEX.fullmatch(directory) for directory in directories):
        return True
    return "." in name and any(_is_hash(part) for part in _parts(name.rpartition(".")[0]))


def _parts(stem: str) -> Iterator[str]:
    for piece in stem.split("."):
        yield piece
        yield from piece.split("-")
        if piece[-_SHORT - 1 : -_SHORT] in ("-", "_"):  # a hash in base64url may hold both
            yield piece[-_SHORT:]


def _is_hash(part: str) -> bool:
    if _HEX.fullmatch(part):
        return True
    if len(part) != _SHORT:
        return False
    return not all(_WORD.fullmatch(word) for word in re.split(r"[-_]", part))
