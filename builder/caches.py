"""What a build takes over from earlier ones, and leaves to later ones. Nothing of it ever fails a build.

- ``modules``: all node_modules folders, where nothing changed that an install reads; then the install is skipped.
- ``dependencies``: what package managers downloaded, for the same lock file or a near one.
- ``framework``: what the framework's own tools keep, left by builds that went well.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from builder.archives import Archives, Measured
from builder.detect import Plan
from builder.footprint import CACHES, Footprint, changed, footprint, written
from builder.frameworks import framework
from builder.job import CacheRules
from builder.marks import MOST_BYTES, Mark, digests, read_mark
from builder.packages import Keys
from builder.shelf import Found, Shelf

#: Where package managers put what they download: npm, Yarn from 2 on and 1, pnpm (twice), Bun, pip, uv, Poetry.
DOWNLOADS: Final = (
    *("home/.npm", "home/.yarn/berry", "home/.cache/yarn", "home/.local/share/pnpm", "src/.pnpm-store"),
    *("home/.bun/install/cache", "home/.cache/pip", "home/.cache/uv", "home/.cache/pypoetry"),
)
SHARED: Final = ("node_modules/.cache", ".turbo/cache", ".parcel-cache")  #: of tools that any framework may use
MARK: Final = "home/.scalemesh"  #: the last folder of an archive of modules: it was unpacked to its end
FORMAT_OF_FRAMEWORKS: Final = "v1"
DISK_SHARE: Final = 4  #: one archive's files may take this part of the disk limit
MOST_NAMES: Final = 1_000  #: folders of modules


@dataclass(frozen=True, slots=True)
class Restored:
    """What was brought back, and what its makers had to do for it."""

    seconds: float
    is_exact: bool


class Caches:
    """The methods are called in the order of a build: restore, (install), save, warm, (build), cool, finish."""

    def __init__(
        self, plan: Plan, keys: Keys | None, rules: CacheRules, archives: Archives, shelf: Shelf, disk_bytes: int
    ) -> None:
        """*disk_bytes* is what the build may use of the disk."""
        self._plan, self._keys, self._rules = plan, keys, rules
        self._archives, self._shelf = archives, shelf
        self._most_unpacked = disk_bytes // DISK_SHARE
        self._downloads: Restored | None = None
        self._framework: Restored | None = None
        self._before: Footprint | None = None
        self._lacking = ""  #: a file that the install writes into the source, and the hooks alone do not
        self._brought: Sequence[str] = ()  #: framework folders that are part of the source
        self._warm = Measured()

    @property
    def hooks(self) -> tuple[str, ...]:
        """Commands of the project itself that run where its install is skipped."""
        return self._keys.hooks if self._keys else ()

    def restore(self, say: Callable[[str], None]) -> bool:
        """Bring back packages; true: they are all there, so nothing needs to be installed."""
        if self._keys is None:
            return False
        if not self._rules.reads:
            say("Nothing of earlier builds is used, as it was asked for")
        elif self._restore_modules(say):
            return True
        else:
            self._restore_downloads(say)
        self._before = footprint(self._archives.work) if self._keys.modules else None
        return False

    def is_complete(self) -> bool:
        """Whether all is there that the install would have left, now that the hooks ran on what was brought back."""
        mark = read_mark(self._archives.marked(MARK))
        self._lacking = mark.unwritten(self._archives.work, self._before) if mark and mark.wrote else ""
        return not self._lacking

    def dismiss(self, say: Callable[[str], None]) -> None:
        """Remove the packages that were brought back: their scripts do not run, or not all that is needed."""
        self._archives.remove(self._module_folders())
        self._before = footprint(self._archives.work)
        lacking = f"only an install writes {_shown(self._lacking)}" if self._lacking else "they do not work here"
        say(f"The packages of the earlier build are installed anew: {lacking}")

    def save(self, took_s: float, say: Callable[[str], None]) -> None:
        """Keep what the install, which took *took_s*, has brought."""
        keys = self._keys
        if keys is None or not self._rules.writes:
            return
        seconds = max(took_s, self._downloads.seconds if self._downloads else 0.0)
        if keys.modules:
            self._save_modules(keys, keys.modules, seconds, say)
        elif keys.why_never:
            say(f"The install runs in every build: {keys.why_never}")
        folders = self._archives.present(DOWNLOADS)
        if folders and not (self._downloads and self._downloads.is_exact):
            self._keep("dependencies", keys.downloads, folders, seconds, say, "the downloads of this install")

    def warm(self, say: Callable[[str], None]) -> None:
        """Bring back what the framework's tools kept."""
        folders = self._framework_folders()
        self._brought = [name for name in self._archives.present(folders) if "node_modules" not in name]
        if self._rules.reads and self._plan.build_command:
            found = self._shelf.find("framework", self._framework_key())
            self._framework = self._bring(found, "the build cache", say, without=self._brought) if found else None
            if found and self._framework is None:
                self._archives.remove([name for name in folders if name not in self._brought])
        self._warm = self._archives.measure(self._own_folders())

    def spared(self, took_s: float) -> str:
        """What the build of *took_s* was spared, for the end of a sentence."""
        less_s = self._framework.seconds - took_s if self._framework else 0.0
        return f"; {since(less_s)} less than without the build cache" if less_s >= 0.1 else ""

    def cool(self, took_s: float, say: Callable[[str], None]) -> None:
        """Keep what the framework's tools left in a build that took *took_s*; it counts at ``finish`` alone."""
        folders = self._own_folders()
        if not folders or not self._rules.writes or self._archives.measure(folders) == self._warm:
            return
        seconds = max(took_s, self._framework.seconds if self._framework else 0.0)
        self._keep("framework", self._framework_key(), folders, seconds, say, "the build cache", at_once=False)

    def finish(self, say: Callable[[str], None]) -> None:
        """The build is good."""
        self._shelf.finish(say)

    def _restore_modules(self, say: Callable[[str], None]) -> bool:
        key = self._keys.modules if self._keys else None
        found = self._shelf.find("modules", key) if key else None
        if found is None or key is None:
            return False
        brought = self._bring(
            found, "all packages, so nothing is installed", say, is_whole=lambda: self._is_marked(key)
        )
        if brought is None:
            self._archives.remove([*self._module_folders(), CACHES])
        elif self.hooks:
            self._before = footprint(self._archives.work)
        return brought is not None

    def _restore_downloads(self, say: Callable[[str], None]) -> None:
        if self._keys is None or self._archives.present(DOWNLOADS):
            return
        found = self._shelf.find("dependencies", self._keys.downloads, self._keys.downloads_prefix)
        if found is None:
            say("No packages are kept from earlier builds yet")
            return
        is_exact = found.key == self._keys.downloads
        what = "the downloads of an earlier install" if is_exact else "the downloads for an earlier lock file"
        if (brought := self._bring(found, what, say)) is None:
            self._archives.remove(self._archives.present(DOWNLOADS))
            return
        self._downloads = Restored(brought.seconds, is_exact)

    def _bring(
        self,
        found: Found,
        what: str,
        say: Callable[[str], None],
        *,
        without: Sequence[str] = (),
        is_whole: Callable[[], bool] = lambda: True,
    ) -> Restored | None:
        """Fetch and unpack; None where that fails, with what came of it left lying."""
        began = time.monotonic()
        if found.unpacked > self._most_unpacked:
            return None
        path, file = self._archives.new_file()
        try:
            with file:
                arrived = self._shelf.fetch(found, file)
                unpacked = arrived and self._archives.unpack(file, without=without)
        finally:
            path.unlink()
        if not unpacked or not is_whole():
            say(f"Could not restore {what.partition(',')[0]}: what was kept is damaged, so it is done without")
            return None
        took_s = time.monotonic() - began
        spared = f"; saves about {since(found.seconds - took_s)}" if found.seconds - took_s >= 0.1 else ""
        say(f"Restored {what} ({size_of(found.size)} in {since(took_s)}{spared})")
        return Restored(found.seconds, is_exact=True)

    def _save_modules(self, keys: Keys, key: str, seconds: float, say: Callable[[str], None]) -> None:
        after = footprint(self._archives.work)
        also = written(self._before, after, below="home/" if keys.hooks else "")
        if elsewhere := also.elsewhere or self._lacking:
            say(f"The install runs in every build: besides packages it writes {_shown(elsewhere)}")
            return
        folders, mark = self._module_folders(), self._mark(key, after).text()
        if len(mark) > MOST_BYTES:
            say("The install runs in every build: it writes too many files into the source")
            return
        if not folders or not self._archives.mark(MARK, mark):
            return
        own = ["home/.npm/_npx"] if self._plan.package_manager != "npm" else []  # where the package manager itself is
        names = [*folders, *self._archives.present([*also.folders, *own]), MARK]
        self._keep("modules", key, names, seconds, say, "the installed packages")

    def _keep(
        self,
        kind: str,
        key: str,
        folders: Sequence[str],
        seconds: float,
        say: Callable[[str], None],
        what: str,
        *,
        at_once: bool = True,
    ) -> None:
        began = time.monotonic()
        archive = self._archives.pack(folders, most_bytes=self._rules.archive_bytes, most_unpacked=self._most_unpacked)
        if archive is None:
            say(f"Not kept for later builds: {what}, which cannot be packed or are too large")
            return
        self._shelf.keep(kind, key, archive, seconds, what, at_once=at_once)
        say(f"Packed {what} for later builds ({size_of(archive.size)} in {since(time.monotonic() - began)})")

    def _mark(self, key: str, after: Footprint | None) -> Mark:
        if not self.hooks or self._before is None or after is None:
            return Mark(key, {})
        return Mark(key, digests(self._archives.work, changed(self._before, after, "src/")))

    def _is_marked(self, key: str) -> bool:
        """Whether an archive of modules was unpacked to its end, and is the one that was meant."""
        mark = read_mark(self._archives.marked(MARK))
        return mark is not None and mark.key == key and bool(self._module_folders())

    def _module_folders(self) -> list[str]:
        found = self._archives.named("src", "node_modules", MOST_NAMES)
        return found if len(found) < MOST_NAMES else []

    def _framework_key(self) -> str:
        node = self._plan.node.version[0] if self._plan.node else 0
        return f"{self._plan.framework}-node{node}-{FORMAT_OF_FRAMEWORKS}"

    def _framework_folders(self) -> list[str]:
        """Where the framework's tools keep things, whether that is there or not."""
        row = framework(self._plan.framework)
        found: dict[str, None] = {}
        for name in (*(row.caches if row else ()), *SHARED):
            if name.startswith("~/"):
                found[f"home/{name[2:]}"] = None
                continue
            for directory in (self._plan.root_directory, self._plan.install_directory):
                found["/".join(part for part in ("src", directory, name) if part)] = None
        return list(found)

    def _own_folders(self) -> list[str]:
        """Those that are there now, and are not part of the source."""
        return self._archives.present([name for name in self._framework_folders() if name not in self._brought])


def _shown(path: str) -> str:
    return path.removeprefix("src/")[:200]


def since(seconds: float) -> str:
    """A time for the log."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.95 else f"{seconds:.1f} s"


def size_of(size: int) -> str:
    """An amount of bytes for the log."""
    return f"{size / 1e6:.1f} MB" if size >= 950_000 else f"{size / 1e3:.1f} kB"
