"""Get an uploaded source: every file by its digest, verified, written below the source folder and nowhere else."""

import hashlib
import os
from pathlib import Path, PurePosixPath

from builder.api import Api
from builder.errors import BuildFailed
from builder.job import SourceFile, UploadSource
from builder.life import Life
from builder.parallel import for_each

WORKERS = 4


def fetch_upload(source: UploadSource, src: Path, api: Api, life: Life) -> None:
    """Write all files of *source* below *src*.

    Raises:
        BuildFailed: rejected, where a path or the bytes are not what they should be.
    """
    for file in source.files:
        _check_path(file.path)

    def fetch(file: SourceFile, connection: Api) -> None:
        life.check()
        data = connection.get(f"/build/v1/source/{file.sha256}")
        if hashlib.sha256(data).hexdigest() != file.sha256 or len(data) != file.size:
            raise BuildFailed("rejected", f"The uploaded file {file.path!r} arrived damaged. Deploy once more.")
        _write(src / file.path, data, file.is_executable)

    for_each(source.files, fetch, api, WORKERS)


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path or ".git" in parts:
        raise BuildFailed("rejected", f"The uploaded source has a file of the unusable name {path[:200]!r}.")


def _write(path: Path, data: bytes, executable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755 if executable else 0o644)
    with os.fdopen(opened, "wb") as file:
        file.write(data)
