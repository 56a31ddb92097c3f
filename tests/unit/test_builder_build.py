"""Whole builds by the real builder process against a daemon that speaks the protocol."""

from pathlib import Path

from tests.unit.builder_daemon import build, daemon, files_source


async def test_a_plain_site_is_published_as_it_is(tmp_path: Path) -> None:
    source, uploads = files_source(index__html="<h1>Hello</h1>", css___main__css="h1 {}", __env="SECRET=1")
    async with daemon(tmp_path, source, uploads=uploads) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert fake.files() == {"index.html": b"<h1>Hello</h1>", "css/main.css": b"h1 {}"}
        assert fake.finished is not None
        assert fake.finished["framework"] == "static"
        assert "Detected a plain static site" in fake.text


async def test_commands_run_and_their_output_is_in_the_log(tmp_path: Path) -> None:
    source, uploads = files_source(readme="x")
    settings = {
        "build_command": "mkdir out && echo made > out/index.html && echo seen; echo oops >&2",
        "output_directory": "out",
    }
    async with daemon(tmp_path, source, uploads=uploads, settings=settings) as fake:
        assert await build(fake, tmp_path / "work") == 0
        assert fake.files() == {"index.html": b"made\n"}
        said = [(stream, step, text) for _, stream, step, text in fake.lines]
        assert ("out", "build", "seen") in said
        assert ("err", "build", "oops") in said
