"""The steps of a build, each with the lines that it shows: fetch, detect, install, build, collect, upload."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from builder import variables
from builder.api import Api
from builder.archives import Archives
from builder.caches import Caches, since, size_of
from builder.collect import Collected, collect
from builder.commands import Command, Commands, Sandbox
from builder.detect import Plan, plan
from builder.errors import BuildFailed
from builder.fetch import Facts, Fetch
from builder.git import Git
from builder.job import GitSource, Job
from builder.lines import Log
from builder.nodes import Node, installed
from builder.outputs import find_output
from builder.packages import keys
from builder.rule_files import collect_rule_files, functions_of_source, is_served
from builder.shelf import Shelf
from builder.source import fetch_upload
from builder.store import Store
from builder.tree import Tree
from builder.upload import upload

COMMANDED: Final = ("package.json", "vercel.json")  #: files that may bring commands
MOST_TOLD: Final = 10  #: functions by their names
COMPARED_COMMITS: Final = 10  #: how many commits an ignore command may look back
UNPROTECTED: Final = (
    "This build runs without a sandbox: its code can read and change everything that the daemon's user can."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a build works: its folders, and what the machine offers."""

    work: Path
    environ: Mapping[str, str]  #: the builder's own; what may be passed on is chosen in variables
    cause: Callable[[], BuildFailed | None] = lambda: None  #: what the kernel did to the build, where it can be asked
    proxy: Mapping[str, str] = field(default_factory=dict)  #: variables that lead to it, where there is one

    @property
    def src(self) -> Path:
        return self.work / "src"

    @property
    def home(self) -> Path:
        return self.work / "home"

    @property
    def spool(self) -> Path:
        return self.work / "spool"

    def prepare(self) -> None:
        """Make the folders; only we may look into the spool."""
        tmp = self.work / "tmp"  # user commands see it as /tmp
        for folder, mode in ((self.src, 0o755), (self.home, 0o755), (tmp, 0o1777), (self.spool, 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)

    @property
    def node_folders(self) -> list[str]:
        return [folder for folder in self.environ.get("SCALEMESH_NODES", "").split(":") if folder]


class Steps:
    """One build from its source to its uploaded files; the methods are called in their order."""

    def __init__(self, job: Job, place: Place, api: Api, store: Store, log: Log) -> None:
        self._job, self._place, self._api, self._store, self._log = job, place, api, store, log
        self._life = store.life
        self._machine = variables.machine(place.environ, job.operator_env, place.proxy)
        self._fetch: Fetch | None = None
        self.warnings: list[str] = []

    def tell_of_sandbox(self) -> None:
        """Say so where there is none; everybody who reads the log is to see it first."""
        if self._place.environ.get("SCALEMESH_SANDBOX") == "off":
            self._warn("fetch", UNPROTECTED)

    def fetch(self) -> Facts | None:
        """Bring the source into ``src``; an upload has no facts."""
        began, source = time.monotonic(), self._job.source
        if not isinstance(source, GitSource):
            fetch_upload(source, self._place.src, self._api, self._life)
            self._log.say("fetch", f"Fetched {len(source.files)} uploaded files in {_since(began)}")
            return None
        git = Git(source, spool=self._place.spool, env=self._machine, life=self._life)
        self._fetch = Fetch(git, source, self._place.src, lambda text: self._log.say("fetch", text))
        facts = self._fetch.run()
        self._api.post("/build/v1/heartbeat", {"facts": facts.as_json()})
        self._log.say("fetch", f"Cloned in {_since(began)}")
        return facts

    def detect(self) -> Plan:
        """Decide what to do, and say why."""
        found = plan(self._place.src, self._job.settings, self._nodes())
        for warning in found.warnings:
            self._warn("detect", warning)
        self._log.say("detect", f"Detected {found.framework_name} because {found.why['framework']}")
        if found.node and (found.install_command or found.build_command):
            self._log.say("detect", f"Using Node {found.node}: {found.why['node']}")
        return found

    def commands(self, plan: Plan, facts: Facts | None, sandbox: Sandbox) -> "Run":
        """Ready to run the commands of *plan*, of which there may be none."""
        home = str(self._place.home)
        env, refused = variables.for_commands(self._job, facts, self._machine, plan.env, home)
        for name in refused:
            self._warn("detect", f"The variable {name!r} cannot be passed to commands: its name or value is unusable.")
        root = self._place.src / plan.root_directory
        own = [str(root / "node_modules/.bin"), *([plan.node.folder] if plan.node else [])]
        env["PATH"] = ":".join((*own, env["PATH"]))
        commands = Commands(sandbox, self._life, self._log, self._machine["PATH"], self._place.cause)
        return Run(self, plan, env, commands, self._caches(plan, env, commands))

    def collect(self, plan: Plan) -> tuple[str, Tree, list[Collected]]:
        """Find the output and hash its files, and those that say how it is served; they are held below the tree."""
        began = time.monotonic()
        source = Tree(self._place.src)
        root = source.below(plan.root_directory)
        what = f"`{plan.build_command}`" if plan.build_command else plan.framework_name
        path = find_output(plan.output_candidates, root, by_hand=plan.output_by_hand, what=what, hint=plan.hint)
        rules = collect_rule_files(source, plan.root_directory, path, self._life.check)
        limits = self._job.limits
        left = (limits.output_bytes - sum(file.size for file in rules), limits.output_files)  # rule files are few
        files, warnings = collect(root.below(path), left, self._life.check)
        for warning in warnings:
            self._warn("collect", warning)
        files = self._without_functions(root, path, files)
        if not any(is_served(file.path) for file in files):
            raise BuildFailed("no_output", f"The output directory {path!r} holds no file that can be published.")
        size = sum(file.size for file in files)
        self._log.say("collect", f"Collected {len(files)} files ({size_of(size)}) from {path} in {_since(began)}")
        held = [replace(file, held_at=f"{plan.root_directory}/{path}/{file.held_at}".lstrip("/")) for file in files]
        return path, source, held + rules

    def _without_functions(self, root: Tree, path: str, files: list[Collected]) -> list[Collected]:
        """*files* of the output *path*, without code that is meant to be run; what of it there is, is told."""
        functions = functions_of_source(root)
        for name in functions[:MOST_TOLD]:
            self._warn("collect", f"{name} is not served: at Vercel it is run, and here only files are served.")
        if (more := len(functions) - MOST_TOLD) > 0:
            self._warn("collect", f"{more} more functions are not served.")
        hidden = set(functions) if path == "." else set()
        return [file for file in files if file.path not in hidden]

    def upload(self, output: Tree, files: list[Collected]) -> None:
        """Send what nobody has yet."""
        began = time.monotonic()
        sent = upload(files, output, self._api, self._store)
        same = len({file.sha256 for file in files}) - sent.count
        how = ", straight to the store" if sent.is_direct else ""
        known = f"; {same} were there already" if same else ""
        self._log.say("upload", f"Uploaded {sent.count} files ({size_of(sent.size)}) in {_since(began)}{how}{known}")

    def deepen(self, facts: Facts | None) -> None:
        """For an ignore command, which likes to compare with the commit before."""
        if self._fetch and facts:
            self._fetch.deepen(facts, COMPARED_COMMITS)

    def _caches(self, plan: Plan, env: Mapping[str, str], commands: Commands) -> Caches:
        archives = Archives(commands, self._place.work, self._place.spool)
        shelf = Shelf(self._api.another(), self._store, self._job.limits.time_s)
        found = keys(plan, Tree(self._place.src), env)
        return Caches(plan, found, self._job.cache, archives, shelf, self._job.limits.disk_bytes)

    def say(self, step: str, text: str) -> None:
        self._log.say(step, text)

    @property
    def src(self) -> Path:
        return self._place.src

    def _nodes(self) -> tuple[Node, ...]:
        """The installed ones, asked for their version only where commands may run."""
        settings, source = self._job.settings, Tree(self._place.src)
        needed = settings.install_command or settings.build_command
        here = any(source.has_file(f"{settings.root_directory}/{name}".lstrip("/")) for name in COMMANDED)
        return installed(self._place.node_folders) if needed or here else ()

    def _warn(self, step: str, text: str) -> None:
        self.warnings.append(text)
        self._log.say(step, f"Warning: {text}")


class Run:
    """The user's commands of one plan, and what they take over from earlier builds."""

    def __init__(self, steps: Steps, plan: Plan, env: dict[str, str], commands: Commands, caches: Caches) -> None:
        self._steps, self._plan, self._env, self._commands = steps, plan, env, commands
        self._caches = caches

    def ignore(self, facts: Facts | None) -> None:
        """Ask the ignore command; as at Vercel, its exit code 0 means: do not build."""
        if not self._plan.ignore_command:
            return
        self._steps.deepen(facts)
        if self._commands.succeeds(self._command("detect", self._plan.ignore_command, self._plan.root_directory)):
            raise BuildFailed(
                "skipped", f"The ignore command `{self._plan.ignore_command}` ended with 0: nothing to build."
            )

    def install(self) -> None:
        """Install the dependencies, or take over those of an earlier build.

        NODE_ENV is not set for it: "production" would leave out the build tools.
        """
        if not self._plan.install_command:
            return
        if self._caches.restore(partial(self._steps.say, "restore")):
            hooks = map(self._installing, self._caches.hooks)
            if all(map(self._commands.succeeds, hooks)) and self._caches.is_complete():
                return
            self._caches.dismiss(partial(self._steps.say, "restore"))
        began = time.monotonic()
        self._commands.must(self._installing(self._plan.install_command))
        took_s = time.monotonic() - began
        self._steps.say("install", f"Installed in {since(took_s)}")
        self._caches.save(took_s, partial(self._steps.say, "save"))

    def build(self) -> None:
        """Run the build command, with what the framework's tools kept of earlier builds."""
        if not self._plan.build_command:
            return
        self._caches.warm(partial(self._steps.say, "restore"))
        began = time.monotonic()
        self._commands.must(self._command("build", self._plan.build_command, self._plan.root_directory))
        took_s = time.monotonic() - began
        self._steps.say("build", f"Built in {since(took_s)}{self._caches.spared(took_s)}")
        self._caches.cool(took_s, partial(self._steps.say, "save"))

    def finish(self) -> None:
        """The build is good: what it keeps for later ones counts."""
        self._caches.finish(partial(self._steps.say, "save"))

    def _installing(self, text: str) -> Command:
        command = self._command("install", text, self._plan.install_directory)
        return replace(command, env={name: value for name, value in command.env.items() if name != "NODE_ENV"})

    def _command(self, step: str, text: str, directory: str) -> Command:
        if not Tree(self._steps.src).has_folder(directory):  # a command before may have put a link there
            raise BuildFailed(
                "command_failed", f"`{text}` cannot run: the folder {directory!r} is gone, or a link now."
            )
        return Command(step=step, text=text, cwd=self._steps.src / directory, env=self._env)


def success(path: str, plan: Plan, files: list[Collected], warnings: list[str]) -> dict[str, Any]:
    """What ``finish`` says of a build that went well."""
    return {
        "ok": True,
        "files": [[file.path, file.sha256, file.size] for file in files],
        "framework": plan.framework,
        "output_directory": path,
        "warnings": warnings,
    }


def _since(began: float) -> str:
    return since(time.monotonic() - began)
