"""Documents and code say the same: settings, commands, the API, ports, errors, the changelog, the locked packages."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest

from scalemesh import errors, ports
from scalemesh.config import Config, load
from scalemesh.errors import ConfigError, ScaleMeshError
from scalemesh.services.chores import Chore, Progress, Wanted
from scalemesh.values import LogLine, Reason
from scalemesh.web.api import deployments, explain, projects, session, storage, tokens, variables
from scalemesh.web.api.chores import chore_view
from scalemesh.web.api.views import Views, log_lines
from scalemesh.web.app import make_control_app
from scalemesh.web.metrics import Metrics
from scalemesh.web.ui.words import ADVICE
from tests.contracts.executors import EndsWhenTold
from tests.contracts.life import begin

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config" / "scalemesh.toml"
LOCKS = sorted((ROOT / "config" / "locked").glob("*.txt"))
API = (ROOT / "docs" / "api.md").read_text()
CLI = (ROOT / "docs" / "cli.md").read_text()
PLACE = {"-c", "--config", "--socket", "--url", "--token"}  # where the daemon is; told once for all commands
BODIES = {
    "POST /api/v1/projects": projects.NewProject,
    "PATCH /api/v1/projects/{project}": projects.ProjectChange,
    "POST /api/v1/projects/{project}/rollback": projects.WantedRollback,
    "POST /api/v1/deployments": deployments.GitUrl,
    "POST /api/v1/deployments/{deployment}/redeploy": deployments.WantedRedeployment,
    "POST /api/v1/projects/{project}/deployments": deployments.NewDeployment,
    "POST /api/v1/deployments/{deployment}/keep": deployments.WantedKeep,
    "PUT /api/v1/projects/{project}/env/{name}": variables.NewVariable,
    "POST /api/v1/session": session.SignIn,
    "POST /api/v1/gc": storage.WantedGc,
    "PUT /api/v1/account/password": session.NewPassword,
    "POST /api/v1/tokens": tokens.NewToken,
    "POST /api/v1/chores": Wanted,
    "POST /api/v1/explain": explain.WantedExplanation,
}
PLUG_POINTS = {"executor": "executors", "store": "stores", "logs": "logstores", "bus": "logbus"}


def plugins() -> list[tuple[str, str, str]]:
    """Every kind of ours: its table in the config, its name, its class as module:Class."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        (table, kind, target)
        for table, group in PLUG_POINTS.items()
        for kind, target in project["entry-points"].get(f"scalemesh.{group}", {}).items()
    ]


def settings(cls: type, where: str = "") -> dict[str, object]:
    """Dotted names of all settings of a dataclass of the config, with their defaults as TOML would give them.

    Without what a plug-in is given by other tables (``GIVEN`` in its config): people set that there, once.
    """
    hints = get_type_hints(cls)
    found: dict[str, object] = {}
    for field in dataclasses.fields(cls):
        if field.metadata.get("given"):
            continue
        name = f"{where}{field.name}"
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.name in PLUG_POINTS and isinstance(default, dict):
            found[f"{name}.kind"] = default["kind"]
        elif dataclasses.is_dataclass(hints[field.name]):
            found |= settings(hints[field.name], f"{name}.")
        else:
            found[name] = as_toml(default)
    return found


def as_toml(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def all_settings() -> dict[str, object]:
    """Those of the daemon and of every plug-in of ours."""
    found = settings(Config)
    for table, kind, target in plugins():
        found |= settings(plugin_class(target).Config, f"{table}.{kind}.")
    return found


def told() -> dict[str, object]:
    """Dotted names and values of the settings that the example config shows, as they are or behind a ``#``."""
    found: dict[str, object] = {}
    table = ""
    for line in EXAMPLE.read_text().splitlines():
        bare = line.removeprefix("#").removeprefix(" ")
        if match := re.fullmatch(r"\[([a-z0-9_.]+)\]\s*(#.*)?", bare):
            table = f"{match[1]}."
            found.setdefault(match[1], {})
        elif match := re.match(r"([A-Za-z0-9_]+) = \S", bare):
            found[table + match[1]] = tomllib.loads(bare)[match[1]]
    return found


def plugin_class(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def commands(group: click.Group, before: str = "") -> dict[str, click.Command]:
    """Every command of the CLI by its full name, such as ``project list``."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= commands(command, f"{before}{name} ")
        elif not command.hidden:
            found[f"{before}{name}"] = command
    return found


def all_commands() -> dict[str, click.Command]:
    main = importlib.import_module("scalemesh.cli.main")
    group = next(value for value in vars(main).values() if isinstance(value, click.Group))
    return commands(group)


def words_of(command: click.Command) -> set[str]:
    """The names of its options and arguments."""
    found: set[str] = set()
    for param in command.params:
        is_option = isinstance(param, click.Option)
        found |= {*param.opts, *param.secondary_opts} if is_option else set(param.human_readable_name.split("|"))
    return found


def told_words() -> dict[str, set[str]]:
    """The same, as docs/cli.md tells them: a command's lines, with SETTINGS written out."""
    block, settings = re.split(r"\n    SETTINGS: ", re.sub(r"\n {5,}", " ", CLI), maxsplit=1)
    shared = set(re.findall(r"--[a-z-]+", settings.split("\n\n")[0]))
    found = {}
    for line in re.findall(r"^    scalemesh (.+)$", block.partition("## Options")[2], re.MULTILINE):
        name = next(name for name in sorted(all_commands(), key=len, reverse=True) if f"{line} ".startswith(f"{name} "))
        rest = re.sub(r"(--[a-z-]+) [A-Za-z|]+\]", r"\1]", line.removeprefix(name))  # without the options' values
        found[name] = set(re.findall(r"--?[A-Za-z-]+|[A-Z_]+", rest)) - {"SETTINGS"}
        found[name] |= shared if "SETTINGS" in rest else set()
    return found


def api_section(heading: str) -> str:
    """What stands below a heading of docs/api.md."""
    return API.partition(f"\n### {heading}\n")[2].partition("\n##")[0]


def rows(text: str) -> set[str]:
    """The first cells of its tables that are code."""
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


def port_methods() -> list[tuple[str, str]]:
    return [
        (name, method)
        for name, port in inspect.getmembers(ports, inspect.isclass)
        if port.__module__ == ports.__name__ and getattr(port, "_is_protocol", False)
        for method, value in vars(port).items()
        if inspect.isfunction(value) and not method.startswith("_")
    ]


@pytest.mark.parametrize("name", sorted(all_settings()))
def test_every_setting_is_in_the_example_config_with_its_default(name: str) -> None:
    """A setting without a default shows an example instead."""
    shown, default = told(), all_settings()[name]
    assert name in shown
    assert default in (None, dataclasses.MISSING) or shown[name] == default


def test_the_example_config_shows_no_setting_that_does_not_exist() -> None:
    known = all_settings()
    tables = {name.rpartition(".")[0] for name in known} | set(PLUG_POINTS)
    of_free_names = tuple(f"{name}." for name, default in known.items() if isinstance(default, dict))
    extra = [name for name in told() if name not in known and name not in tables]
    assert not [name for name in extra if not name.startswith(of_free_names)]


def test_the_example_config_is_one_that_the_daemon_takes() -> None:
    assert load(EXAMPLE).listen.port


def test_every_command_has_its_place_in_the_documents() -> None:
    assert set(all_commands()) - rows(CLI) == set()


def test_the_documents_name_no_command_that_does_not_exist() -> None:
    named = re.findall(r"^\| `([a-z]+(?: [a-z]+){0,2})` \|", CLI, re.MULTILINE)
    assert named
    assert set(named) - set(all_commands()) == set()


@pytest.mark.parametrize("name", sorted(all_commands()))
def test_the_options_and_arguments_of_a_command_are_those_that_the_documents_tell(name: str) -> None:
    assert told_words()[name] == words_of(all_commands()[name]) - PLACE


def test_the_options_of_every_command_that_needs_a_daemon_are_told_once() -> None:
    table = CLI.partition("| option | variable |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(--?[a-z-]+)`", table)) == PLACE
    without = {name for name, command in all_commands().items() if not words_of(command) & PLACE}
    told = re.search(r"Every command but (.+) also takes", CLI)
    assert told
    assert set(re.findall(r"`([a-z ]+)`", told[1])) == without
    assert all(words_of(command) >= PLACE for name, command in all_commands().items() if name not in without)


async def test_the_routes_of_the_api_are_those_that_the_documents_tell(tmp_path: Path) -> None:
    """Pages of the dashboard are no API: the admin socket has none of them, and is compared whole."""
    async with begin(tmp_path, EndsWhenTold()) as life:
        trusted, public = (
            make_control_app(life.services, life.explainer, {}, Metrics(), trusted=trusted, builders=True)
            for trusted in (True, False)
        )
        socket, port = (
            {f"{one.method} {one.resource.canonical}" for one in app.router.routes() if one.resource}
            for app in (trusted, public)
        )
    told = re.findall(r"^### ([A-Z]+ /\S+)$", API, re.MULTILINE)
    assert sorted(told) == sorted(one for one in socket if not one.startswith("HEAD "))
    assert set(told) == {one for one in port if re.match(r"(?!HEAD)[A-Z]+ /(api/|build/|metrics)", one)}


@pytest.mark.parametrize("heading", sorted(BODIES))
def test_the_fields_of_a_body_are_those_that_the_documents_tell(heading: str) -> None:
    assert rows(api_section(heading)) == {field.name for field in dataclasses.fields(BODIES[heading])}


async def test_the_examples_of_the_api_have_the_fields_of_its_answers(tmp_path: Path) -> None:
    line = LogLine(number=1, at=datetime.now(UTC), step="build", stream="out", text="")
    chore = Chore(wanted=Wanted(kind="verify"), progress=Progress(float), started_at=datetime.now(UTC))
    async with begin(tmp_path, EndsWhenTold()) as life:
        views = Views(life.services.routes, life.services.links)
        deployment = await life.services.deployer.get(await life.submit())
        real = {
            "A project": views.project(await life.project()),
            "A deployment": views.deployment(deployment),
            "A log line": log_lines([line])[0],
            "GET /api/v1/chores/current": chore_view(chore),
            "GET /api/v1/deployments/{deployment}/logs": {"end": views.end(deployment)},
        }
    for heading, answer in real.items():
        example = re.search(r"```json\n(.+?)```", api_section(heading), re.DOTALL)
        assert example
        told = json.loads(example[1])
        assert list(told) == list(answer)
        inner = [name for name, value in answer.items() if isinstance(value, dict)]
        assert [list(told[name]) for name in inner] == [list(answer[name]) for name in inner]


def test_the_codes_of_errors_are_those_that_the_documents_tell() -> None:
    told = re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", API, re.MULTILINE)
    real = {(cls.code, str(cls.status)) for cls in classes_below(ScaleMeshError).values() if cls is not ConfigError}
    assert set(told) == real


@pytest.mark.parametrize(("port", "method"), port_methods())
def test_every_method_of_a_port_tells_its_contract(port: str, method: str) -> None:
    assert inspect.getdoc(vars(getattr(ports, port))[method])


@pytest.mark.parametrize("port", sorted({port for port, _ in port_methods()}))
def test_a_port_has_at_most_four_methods_of_its_own(port: str) -> None:
    assert len([name for name, _ in port_methods() if name == port]) <= 4


def test_the_tree_of_errors_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn: dict[str, tuple[str, int, str | None]] = {}
    ancestors: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if not (match := re.match(r"([│├└─ ]*)(\w+Error)\s+(?:([a-z_]+)\s+)?(\d{3})?", line)):
            continue
        depth = len(match[1]) // 4
        code, status = match[3] or "", int(match[4] or 0)
        drawn[match[2]] = (code, status, ancestors.get(depth - 1))
        ancestors[depth] = match[2]
    for name, error in classes_below(ScaleMeshError).items():
        parent = None if error is ScaleMeshError else error.__bases__[0].__name__
        code, status, drawn_parent = drawn.pop(name)
        assert (code, drawn_parent) == (error.code, parent)
        assert status in (0, error.status)
    assert not drawn


def classes_below(top: type[ScaleMeshError]) -> dict[str, type[ScaleMeshError]]:
    found = {top.__name__: top} if top.__module__ == errors.__name__ else {}
    for cls in top.__subclasses__():
        found |= classes_below(cls)
    return found


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_code_is_explained_and_its_advice_is_the_products_own(reason: Reason) -> None:
    row = re.search(rf"^\| `{reason}` \| \S.+ \| (\S.+) \|$", (ROOT / "docs" / "builds.md").read_text(), re.MULTILINE)
    assert row
    assert row[1].replace("`", "") == ADVICE[reason][1]


def test_no_other_reason_code_is_explained() -> None:
    assert rows((ROOT / "docs" / "builds.md").read_text().partition("## Reason codes")[2]) == set(Reason)


def test_the_changelog_keeps_its_form() -> None:
    """Keep a Changelog: newest first, known headings, dates in ISO form."""
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    versions = [line for line in lines if line.startswith("## ")]
    kinds = [line for line in lines if line.startswith("### ")]
    assert versions[0] == "## [Unreleased]"
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", line) for line in versions[1:])
    allowed = {f"### {kind}" for kind in ("Security", "Removed", "Deprecated", "Added", "Changed", "Fixed")}
    assert kinds
    assert set(kinds) <= allowed


@pytest.mark.parametrize("document", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name)
def test_links_inside_the_documents_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", document.read_text()):
        file = document.parent / target if target else document
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", text).strip().lower().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_locked_package_has_hashes_and_no_host(lock: Path) -> None:
    requirements = re.split(r"(?m)^(?=[a-z0-9])", lock.read_text())[1:]
    assert requirements
    assert all("--hash=sha256:" in requirement for requirement in requirements)
    assert not re.search(r"://|--(extra-)?index-url|--find-links", lock.read_text())


def test_the_locks_cover_what_the_project_asks_for() -> None:
    """A dependency that was added to pyproject.toml without tests/lock.sh would fail at a person's first start."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for lock, wanted in (
        ("runtime", data["project"]["dependencies"]),
        ("build", data["build-system"]["requires"]),
        ("dev", data["project"]["dependencies"] + data["dependency-groups"]["dev"]),
    ):
        locked = set(re.findall(r"(?m)^([a-z0-9-]+)==", (ROOT / "config" / "locked" / f"{lock}.txt").read_text()))
        assert not {re.split(r"[\[<>=!~ ;]", name)[0].lower().replace("_", "-") for name in wanted} - locked


def test_modules_open_with_their_one_job() -> None:
    sources = [path for room in ("scalemesh", "builder", "plugins") for path in (ROOT / room).rglob("*.py")]
    silent = [
        str(path.relative_to(ROOT))
        for path in sources
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent
