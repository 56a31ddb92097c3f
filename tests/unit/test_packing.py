"""The builder as one file."""

import subprocess
import sys
import zipfile
from pathlib import Path

import builder
from builder.packing import STAMP, fingerprint, fingerprint_of, write_zipapp

PACKAGE = Path(builder.__file__).parent


def test_the_same_source_packs_to_the_same_bytes(tmp_path: Path) -> None:
    first = write_zipapp(PACKAGE, tmp_path / "a.pyz")
    assert write_zipapp(PACKAGE, tmp_path / "b.pyz") == first == fingerprint()
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b.pyz").read_bytes()


def test_a_packed_builder_knows_its_fingerprint(tmp_path: Path) -> None:
    packed = tmp_path / "builder.pyz"
    write_zipapp(PACKAGE, packed)
    ask = "import sys; sys.path.insert(0, sys.argv[1]); from builder.packing import fingerprint; print(fingerprint())"
    words = [sys.executable, "-I", "-c", ask, str(packed)]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout.strip() == fingerprint()


def test_any_change_of_the_source_is_another_fingerprint(tmp_path: Path) -> None:
    copy = tmp_path / "builder"
    copy.mkdir()
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("*.toml")]:
        (copy / path.name).write_bytes(path.read_bytes())
    assert fingerprint_of(copy) == fingerprint_of(PACKAGE)
    (copy / "frameworks.toml").write_bytes((copy / "frameworks.toml").read_bytes() + b"\n")
    changed = fingerprint_of(copy)
    (copy / "more.py").touch()
    assert len({fingerprint_of(PACKAGE), changed, fingerprint_of(copy)}) == 3


def test_who_has_begun_stays_the_builder_that_it_was_while_its_files_are_replaced(tmp_path: Path) -> None:
    copy = tmp_path / "builder"
    copy.mkdir()
    for path in [*PACKAGE.glob("*.py"), *PACKAGE.glob("*.toml")]:
        (copy / path.name).write_bytes(path.read_bytes())
    ask = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
from pathlib import Path
from builder.packing import fingerprint, default_image
print(fingerprint())
Path({str(copy / "more.py")!r}).touch()
print(fingerprint(), default_image())
"""
    said = subprocess.run([sys.executable, "-I", "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert said == [fingerprint(), fingerprint(), f"scalemesh-builder:{fingerprint()}"]


def test_caches_of_python_and_what_is_no_source_are_not_packed(tmp_path: Path) -> None:
    write_zipapp(PACKAGE, tmp_path / "builder.pyz")
    names = zipfile.ZipFile(tmp_path / "builder.pyz").namelist()
    assert {"__main__.py", "builder/__main__.py", f"builder/{STAMP}"} <= set(names)
    assert all(name.endswith((".py", ".toml")) or name == f"builder/{STAMP}" for name in names)
