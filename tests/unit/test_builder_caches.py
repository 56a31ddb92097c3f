"""What a build takes over from earlier ones: the real builder and npm, and a daemon with the faults of bad days."""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.builder_daemon import FakeDaemon, build, daemon, uploaded
from tests.unit.test_builder_build import LOCK, NPM, SCRIPT, with_node

Source = tuple[dict[str, Any], dict[str, bytes]]


def site(lock: Mapping[str, Any] = LOCK, files: Mapping[str, str] | None = None, **package: Any) -> dict[str, Any]:
    """A small npm project; *package*: parts of its package.json."""
    scripts = {"build": "node build.js", **package.pop("scripts", {})}
    manifest = {**NPM, **package, "scripts": scripts}
    texts = {"package.json": json.dumps(manifest), "package-lock.json": json.dumps(lock), "build.js": SCRIPT}
    source, uploads = uploaded({name: text.encode() for name, text in {**texts, **(files or {})}.items()})
    return {"source": source, "uploads": uploads}


def now_wants(fake: FakeDaemon, wanted: Mapping[str, Any]) -> None:
    """Let the next build be of *wanted*, with a log of its own."""
    fake.source, fake.uploads = wanted["source"], wanted["uploads"]
    fake.seqs.clear()
    fake.lines.clear()
    fake.finished = None


async def built(fake: FakeDaemon, work: Path, wanted: Mapping[str, Any] | None = None) -> str:
    """The log of one more good build."""
    if wanted is not None:
        now_wants(fake, wanted)
    assert await build(fake, work, with_node()) == 0, fake.text + str(fake.finished)
    return fake.text


def kinds(fake: FakeDaemon) -> list[str]:
    return sorted(kind for kind, _ in fake.cache)


async def test_where_nothing_changed_the_install_is_skipped_and_the_site_is_the_same(tmp_path: Path) -> None:
    async with daemon(tmp_path, **site()) as fake:
        first = await built(fake, tmp_path / "one")
        assert fake.files() == {"index.html": b"true"}
        assert "> npm ci" in first
        assert "No packages are kept from earlier builds yet" in first
        assert kinds(fake) == ["dependencies", "modules"]
        second = await built(fake, tmp_path / "two", site())
        assert fake.files() == {"index.html": b"true"}
        assert "> npm ci" not in second
        assert re.search(r"Restored all packages, so nothing is installed \([\d.]+ kB in \d+ ms", second)
        assert "Packed" not in second


async def test_a_changed_lock_file_starts_with_the_downloads_of_the_one_before(tmp_path: Path) -> None:
    async with daemon(tmp_path, **site()) as fake:
        await built(fake, tmp_path / "one")
        log = await built(fake, tmp_path / "two", site(lock={**LOCK, "x": 1}))
        assert "Restored the downloads for an earlier lock file" in log
        assert "> npm ci" in log
        assert len(fake.cache) == 4


async def test_the_downloads_that_were_kept_need_no_registry(tmp_path: Path) -> None:
    async with daemon(tmp_path, **site()) as fake:
        await built(fake, tmp_path / "one")
        fake.env = {"npm_config_offline": "true"}  # a part of the key of modules
        log = await built(fake, tmp_path / "two", site())
        assert "Restored the downloads of an earlier install" in log
        assert "added 1 package" in log


async def test_a_changed_build_script_keeps_the_packages_and_a_changed_dependency_does_not(tmp_path: Path) -> None:
    async with daemon(tmp_path, **site()) as fake:
        await built(fake, tmp_path / "one")
        assert "> npm ci" not in await built(fake, tmp_path / "two", site(scripts={"build": "node ./build.js"}))
        assert "> npm ci" in await built(fake, tmp_path / "three", site(files={".npmrc": "fund=false\n"}))
        assert "> npm ci" in await built(
            fake, tmp_path / "four", site(version="1.0.1", lock={**LOCK, "version": "1.0.1"})
        )


async def test_a_project_whose_scripts_run_at_install_has_them_run_all_the_same(tmp_path: Path) -> None:
    hooks = {"postinstall": "echo generated > generated.txt", "build": "cp generated.txt x.txt && node build.js"}
    async with daemon(tmp_path, **site(scripts=hooks)) as fake:
        await built(fake, tmp_path / "one")
        log = await built(fake, tmp_path / "two", site(scripts=hooks))
        assert "> npm ci" not in log
        assert "> npm run postinstall" in log


async def test_a_script_that_fails_on_restored_packages_lets_them_be_installed(tmp_path: Path) -> None:
    hooks = {"postinstall": "test $npm_command = ci"}
    async with daemon(tmp_path, **site(scripts=hooks)) as fake:
        await built(fake, tmp_path / "one")
        log = await built(fake, tmp_path / "two", site(scripts=hooks))
        assert "installed anew: they do not work here" in log
        assert "> npm ci" in log


#: What the install writes into the source and the hook alone does not, as where a package's own script does it.
WORKER = {
    "postinstall": "echo hooked >hooked; test $npm_command != ci || echo new >worker",
    "build": "grep new worker && node build.js",
}


@pytest.mark.parametrize("committed", [{}, {"worker": "old\n"}], ids=["ignored", "old"])
async def test_a_file_that_only_the_install_writes_into_the_source_is_there_in_every_build(
    tmp_path: Path, committed: dict[str, str]
) -> None:
    async with daemon(tmp_path, **site(scripts=WORKER, files=committed)) as fake:
        await built(fake, tmp_path / "one")
        for again in ("two", "three"):
            log = await built(fake, tmp_path / again, site(scripts=WORKER, files=committed))
            assert "installed anew: only an install writes worker" in log
            assert "besides packages it writes worker" in log


async def test_a_file_that_is_in_the_source_as_the_install_leaves_it_needs_no_install(tmp_path: Path) -> None:
    async with daemon(tmp_path, **site(scripts=WORKER, files={"worker": "new\n"})) as fake:
        await built(fake, tmp_path / "one")
        log = await built(fake, tmp_path / "two", site(scripts=WORKER, files={"worker": "new\n"}))
        assert "> npm ci" not in log
        assert "> npm run postinstall" in log


@pytest.mark.parametrize(
    ("package", "files", "why"),
    [
        (
            {"dependencies": {"is-number": "7.0.0", "own": "file:./own"}},
            {"own/package.json": '{"name": "own"}'},
            "own",
        ),
        ({}, {"vercel.json": '{"installCommand": "npm ci && echo x > made"}'}, "may do more than install"),
        ({}, {"node_modules/a/index.js": "1"}, "brings node_modules along"),
    ],
    ids=["folder", "command", "shipped"],
)
async def test_an_install_that_reads_or_does_more_runs_in_every_build(
    tmp_path: Path, package: dict[str, Any], files: dict[str, str], why: str
) -> None:
    lock = json.loads(json.dumps(LOCK))
    if package:
        lock["packages"][""]["dependencies"] = package["dependencies"]
        lock["packages"] |= {"node_modules/own": {"resolved": "own", "link": True}, "own": {"name": "own"}}
    async with daemon(tmp_path, **site(lock, files, **package)) as fake:
        log = await built(fake, tmp_path / "one")
        assert "The install runs in every build" in log
        assert why in log
        assert kinds(fake) == ["dependencies"]


async def test_an_install_that_writes_elsewhere_runs_in_every_build(tmp_path: Path) -> None:
    hooks = {"postinstall": "echo x > $HOME/.browser"}
    async with daemon(tmp_path, **site(scripts=hooks)) as fake:
        log = await built(fake, tmp_path / "one")
        assert "besides packages it writes home/.browser" in log
        assert kinds(fake) == ["dependencies"]


async def test_what_scripts_of_packages_put_into_the_home_folders_cache_comes_back_with_them(tmp_path: Path) -> None:
    """A browser, say: the script looks for it in the second build, before it would bring it again."""
    hooks = {
        "postinstall": "cat ~/.cache/browser/x || (mkdir -p ~/.cache/browser && echo fetched > ~/.cache/browser/x)"
    }
    async with daemon(tmp_path, **site(scripts=hooks)) as fake:
        assert "fetched" not in (await built(fake, tmp_path / "one")).splitlines()
        log = await built(fake, tmp_path / "two", site(scripts=hooks))
        assert "> npm ci" not in log
        assert "fetched" in log.splitlines()


COUNTING = """
const fs = require('fs'), path = 'node_modules/.cache/tool'
const times = fs.existsSync(path + '/times') ? Number(fs.readFileSync(path + '/times')) + 1 : 1
fs.mkdirSync(path, {recursive: true}); fs.writeFileSync(path + '/times', String(times))
fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', String(times))
if (fs.existsSync('fails')) process.exit(1)
"""


async def test_the_cache_of_the_build_tools_is_kept_by_good_builds_alone(tmp_path: Path) -> None:
    async with daemon(tmp_path, **site(files={"build.js": COUNTING})) as fake:
        await built(fake, tmp_path / "one")
        assert "framework" in kinds(fake)
        log = await built(fake, tmp_path / "two", site(files={"build.js": COUNTING}))
        assert fake.files() == {"index.html": b"2"}
        assert "Restored the build cache" in log
        now_wants(fake, site(files={"build.js": COUNTING, "fails": "x"}))
        assert await build(fake, tmp_path / "three", with_node()) == 1
        await built(fake, tmp_path / "four", site(files={"build.js": COUNTING}))
        assert fake.files() == {"index.html": b"3"}


async def test_a_build_whose_output_is_missing_keeps_no_build_cache(tmp_path: Path) -> None:
    script = COUNTING.replace("'dist", "'elsewhere")
    async with daemon(tmp_path, **site(files={"build.js": script})) as fake:
        assert await build(fake, tmp_path / "one", with_node()) == 1
        assert kinds(fake) == ["dependencies", "modules"]


async def test_a_build_without_caches_takes_nothing_over_and_leaves_fresh_ones(tmp_path: Path) -> None:
    async with daemon(tmp_path, **site(files={"build.js": COUNTING})) as fake:
        await built(fake, tmp_path / "one")
        fake.cache_rules["reads"] = False
        kept = dict(fake.cache)
        fake.cache.clear()
        log = await built(fake, tmp_path / "two", site(files={"build.js": COUNTING}))
        assert "Nothing of earlier builds is used" in log
        assert "> npm ci" in log
        assert fake.files() == {"index.html": b"1"}
        assert fake.cache.keys() == kept.keys()


async def test_a_build_that_may_not_write_keeps_nothing(tmp_path: Path) -> None:
    async with daemon(tmp_path, **site(files={"build.js": COUNTING})) as fake:
        fake.cache_rules["writes"] = False
        await built(fake, tmp_path / "one")
        assert fake.cache == {}
        assert fake.archives == {}


@pytest.mark.parametrize("harm", ["bytes", "half", "garbage", "gone", "huge"])
async def test_a_damaged_archive_costs_time_and_nothing_else(tmp_path: Path, harm: str) -> None:
    async with daemon(tmp_path, **site(files={"build.js": COUNTING})) as fake:
        await built(fake, tmp_path / "one")
        for entry in fake.cache.values():
            spoil(fake, entry, harm)
        log = await built(fake, tmp_path / "two", site(files={"build.js": COUNTING}))
        assert "> npm ci" in log
        assert fake.files() == {"index.html": b"1"}
        assert kinds(fake) == ["dependencies", "framework", "modules"]
        assert ("Could not restore" in log) == (harm != "huge")
        fresh = await built(fake, tmp_path / "three", site(files={"build.js": COUNTING}))
        assert "> npm ci" not in fresh


def spoil(fake: FakeDaemon, entry: dict[str, Any], harm: str) -> None:
    """Do *harm* to an archive; *bytes*: it is not what the daemon says, *half* and *garbage*: it is, but no archive."""
    data = fake.archives.pop(entry["sha256"])
    if harm == "gone":
        return
    if harm == "huge":
        fake.archives[entry["sha256"]], entry["unpacked"] = data, 1 << 50
        return
    harmed = {"bytes": data[:-1] + b"x", "half": data[: len(data) // 2], "garbage": b"x" * 100}[harm]
    if harm != "bytes":
        entry["sha256"], entry["size"] = hashlib.sha256(harmed).hexdigest(), len(harmed)
    fake.archives[entry["sha256"]] = harmed


@pytest.mark.parametrize("name", ["cache"])
async def test_a_daemon_that_answers_nothing_about_caches_costs_no_build(tmp_path: Path, name: str) -> None:
    async with daemon(tmp_path, **site()) as fake:
        fake.faults[name] = [503, 0, 500, 429, 404, 413, 422, 400] * 4
        log = await built(fake, tmp_path / "one")
        assert fake.cache == {}
        assert "Not kept for later builds: the installed packages: " in log


async def test_traps_in_the_folders_of_a_build_lead_nowhere(tmp_path: Path) -> None:
    """Links where caches lie are neither followed nor packed."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "secret").write_text("untouched")
    trap = (
        f"ln -s {victim} $HOME/.npm; ln -s {victim} $HOME/.scalemesh; ln -s {victim} node_modules; "
        f"mkdir -p $HOME/.cache; ln -s {victim} $HOME/.cache/yarn; exit 1"
    )
    files = {"vercel.json": json.dumps({"ignoreCommand": trap, "installCommand": "true", "buildCommand": COPY})}
    async with daemon(tmp_path, **site(files=files)) as fake:
        await built(fake, tmp_path / "one")
        assert [path.name for path in victim.iterdir()] == ["secret"]
        assert not any(b"untouched" in data for data in fake.archives.values())
        assert fake.cache == {}


@pytest.fixture
def var_tmp() -> Iterator[Path]:
    """A folder outside /tmp, over which the sandbox lays its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


COPY = "mkdir dist && echo x > dist/index.html"


async def test_in_the_real_sandbox_packages_are_kept_and_restored(tmp_path: Path, var_tmp: Path) -> None:
    sandbox = {
        **with_node(),
        "SCALEMESH_SANDBOX": "bwrap",
        "SCALEMESH_BWRAP": shutil.which("bwrap") or "",
        "SCALEMESH_SEES": "/usr:/etc",
    }
    node = str(Path(with_node()["SCALEMESH_NODES"]).resolve())
    if not node.startswith("/usr"):
        sandbox["SCALEMESH_SEES"] += f":{Path(node).parent}"
    async with daemon(tmp_path, **site()) as fake:
        assert await build(fake, var_tmp / "one", sandbox) == 0, fake.text + str(fake.finished)
        now_wants(fake, site())
        assert await build(fake, var_tmp / "two", sandbox) == 0, fake.text + str(fake.finished)
        assert "> npm ci" not in fake.text
        assert fake.files() == {"index.html": b"true"}
