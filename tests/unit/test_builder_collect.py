"""What is collected from an output that hostile code has written."""

import hashlib
import os
import socket
from pathlib import Path

import pytest

from builder.api import Api, Contact
from builder.collect import READ_BYTES, Collected, collect
from builder.errors import BuildFailed, GivenUp
from builder.life import Life
from builder.tree import Tree
from builder.upload import OutputParcel

MANY = (1_000_000, 1_000)
UNASKED = Api("unix:/nowhere", None, Contact(Life()))


def collected(folder: Path, limits: tuple[int, int] = MANY) -> tuple[dict[str, str], list[str]]:
    files, warnings = collect(Tree(folder), limits, lambda: None)
    return {file.path: file.held_at for file in files}, warnings


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "index.html").write_text("x")
    return folder


def test_links_devices_fifos_and_sockets_that_leave_or_are_no_files_are_left_out(output: Path) -> None:
    (output / "passwd").symlink_to("/etc/passwd")
    (output / "up").symlink_to("../../secret")
    (output / "folder").symlink_to("/etc")
    (output / "loop").symlink_to("loop")
    os.mkfifo(output / "fifo")
    os.mknod(output / "null", 0o666 | 0o020000, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(output / "sock"))
        found, warnings = collected(output)
    assert list(found) == ["index.html"]
    said = "\n".join(warnings)
    assert len(warnings) == 7
    for words in (
        "'passwd': it is a link to '/etc/passwd'",
        "'fifo': it is a FIFO",
        "'null': it is a device",
        "a socket",
    ):
        assert words in said


def test_a_link_to_a_file_inside_is_that_file(output: Path) -> None:
    (output / "a").mkdir()
    (output / "a/latest.html").symlink_to("../index.html")
    (output / "through").symlink_to("a")
    (output / "b.html").symlink_to("through/latest.html")
    (output / "c.html").symlink_to("a/latest.html")
    found, warnings = collected(output)
    assert found == {"index.html": "index.html", "a/latest.html": "index.html"}
    assert len(warnings) == 3


def test_dotfiles_and_node_modules_are_not_published_and_well_known_is(output: Path) -> None:
    for path in (".git/config", ".env", "node_modules/x/a.js", "sub/.git/x", ".well-known/security.txt"):
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_text("x")
    (output / "env").symlink_to(".env")
    (output / "sub/node_modules").mkdir()
    (output / "sub/node_modules/kept.js").write_text("x")
    found, warnings = collected(output)
    assert set(found) == {"index.html", ".well-known/security.txt", "sub/node_modules/kept.js"}
    assert len(warnings) == 1


def test_unusable_names_are_left_out(output: Path) -> None:
    for name in (b"new\nline", b"back\\slash", b"not-utf8-\xff", "ünï".encode()):
        Path(os.fsdecode(os.fsencode(output) + b"/" + name)).write_text("x")
    deep = output
    for _ in range(6):
        deep = deep / ("d" * 200)
        deep.mkdir()
    (deep / "file").write_text("x")
    found, warnings = collected(output)
    assert set(found) == {"index.html", "ünï"}
    assert len(warnings) == 4


def test_a_million_small_files_are_counted_and_refused(output: Path) -> None:
    for number in range(2000):
        (output / f"{number}").touch()
    with pytest.raises(BuildFailed, match=r"has 2,001 files; at most 1,000") as raised:
        collected(output)
    assert (raised.value.reason, raised.value.peak["output_files"]) == ("too_many_files", 2001)


def test_a_huge_file_is_refused_without_being_read(output: Path) -> None:
    with (output / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BuildFailed, match="Publish less") as raised:
        collected(output)
    assert raised.value.reason == "output_too_large"
    assert raised.value.peak["output_bytes"] > 1 << 40


def test_an_output_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "dist").symlink_to("/etc")
    assert not Tree(tmp_path).has_folder("dist")
    with pytest.raises(OSError, match="dist"), Tree(tmp_path).directory("dist"):
        pass


def test_a_file_swapped_for_a_link_after_hashing_is_not_sent(output: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("y")
    files, _ = collect(Tree(output), MANY, lambda: None)
    (output / "index.html").unlink()
    (output / "index.html").symlink_to(tmp_path / "secret")
    with pytest.raises(BuildFailed, match="changed while it was sent") as raised:
        OutputParcel(files[0], Tree(output), UNASKED).open()
    assert raised.value.reason == "rejected"


def test_a_file_that_grew_after_hashing_is_not_sent(output: Path) -> None:
    (output / "index.html").write_text("xy")
    stale = Collected("index.html", "index.html", "0" * 64, 1)
    with pytest.raises(BuildFailed, match="its size changed"):
        OutputParcel(stale, Tree(output), UNASKED).open()


def test_collecting_ends_when_the_build_ends(output: Path) -> None:
    def cancelled() -> None:
        raise GivenUp("the deployment was cancelled")

    with pytest.raises(GivenUp):
        collect(Tree(output), MANY, cancelled)


def test_files_of_many_folders_have_the_digests_of_their_own_bytes(output: Path) -> None:
    contents = {"a/x": b"1", "a/b/x": b"2", "a/y": b"", "b/x": b"3" * (READ_BYTES + 1), "x": b"4", "index.html": b"x"}
    for path, content in contents.items():
        (output / path).parent.mkdir(parents=True, exist_ok=True)
        (output / path).write_bytes(content)
    before = len(list(Path("/proc/self/fd").iterdir()))
    files, _ = collect(Tree(output), (1 << 30, 1_000), lambda: None)
    assert {file.path: file.sha256 for file in files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in contents.items()
    }
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_lies_behind_a_link_is_not_read_whatever_was_read_before(output: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (output / "a").mkdir()
    (output / "a" / "x").write_text("x")
    for name, leads_to in (("out", tmp_path), ("in", output / "a")):
        (output / name).symlink_to(leads_to)
    with Tree(output).reader() as reader:
        os.close(reader.open("a/x"))
        for path in ("out/secret", "in/x", "a/../index.html", "a/.", "a", "/index.html", ""):
            with pytest.raises(OSError):  # noqa: PT011
                reader.open(path)
        os.close(reader.open("a/x"))
