"""What people read: times, durations, states, and what to do about each reason of failure."""

from datetime import UTC, datetime
from typing import Final

from scalemesh.values import Deployment, Reason, State

STATES: Final = {
    State.QUEUED: "Queued",
    State.BUILDING: "Building",
    State.PUBLISHING: "Publishing",
    State.READY: "Ready",
    State.FAILED: "Failed",
    State.CANCELED: "Canceled",
    State.SUPERSEDED: "Superseded",
}

STEPS: Final = {
    "queue": "Queue",
    "fetch": "Fetch the source",
    "detect": "Detect the framework",
    "restore": "Restore the cache",
    "install": "Install",
    "save": "Save the cache",
    "build": "Build",
    "collect": "Collect the output",
    "upload": "Upload",
    "publish": "Publish",
    "end": "End",
}

#: reason -> (heading, what to do)
ADVICE: Final = {
    Reason.CLONE_FAILED: (
        "The source could not be fetched",
        "Check the Git URL and the branch. Private repositories are not supported yet: deploy a folder instead.",
    ),
    Reason.NO_OUTPUT: (
        "The build left no output",
        "Name the folder that your build writes under Settings, as the output directory.",
    ),
    Reason.COMMAND_FAILED: (
        "A command failed",
        "The last lines of its step tell why. Run the same command in a fresh clone to see it on your machine.",
    ),
    Reason.TIMED_OUT: (
        "The build took too long",
        "Look for a command that waits or watches. The limit is builds.time_limit_s in the config.",
    ),
    Reason.OUT_OF_MEMORY: (
        "The build ran out of memory",
        "Raise builds.memory_mib in the config, or make the build need less, for example without source maps.",
    ),
    Reason.TOO_MANY_PROCESSES: (
        "The build started too many processes",
        "Lower the number of workers of your build tool, or raise builds.pids in the config.",
    ),
    Reason.DISK_FULL: (
        "The build used too much disk",
        "Look for large files in the repository or its caches. The limit is builds.disk_mib in the config.",
    ),
    Reason.OUTPUT_TOO_LARGE: (
        "The output is too large",
        "Leave large files out of the output directory, or raise builds.output_mib in the config.",
    ),
    Reason.TOO_MANY_FILES: (
        "The output has too many files",
        "Check that the output directory is not the whole source. The limit is builds.output_files in the config.",
    ),
    Reason.LOST: (
        "The build was lost",
        "What built or sent it went away. Deploy again; if it stays so, run scalemesh check on the server.",
    ),
    Reason.REJECTED: (
        "The deployment was refused",
        "Mend what is named here, and deploy again. If no build is taken here, run scalemesh check on the server.",
    ),
    Reason.SKIPPED: (
        "The build was skipped",
        "Your ignore command said that nothing relevant has changed. What was live stays live.",
    ),
    Reason.INTERNAL: (
        "Something went wrong on our side",
        "Deploy again. If it happens twice, the daemon's log has the details.",
    ),
}

MINUTE, HOUR, DAY = 60, 3600, 86_400


def ago(at: datetime, now: datetime) -> str:
    """*at* seen from *now*: "just now", "3 min ago", "2 days ago", then the date."""
    seconds = int((now - at).total_seconds())
    if seconds < 10:
        return "just now"
    if seconds < MINUTE:
        return f"{seconds} s ago"
    if seconds < HOUR:
        return f"{seconds // MINUTE} min ago"
    if seconds < DAY:
        return f"{seconds // HOUR} h ago"
    if seconds < 30 * DAY:
        days = seconds // DAY
        return "yesterday" if days == 1 else f"{days} days ago"
    return f"{at:%-d %b %Y}"


def span(seconds: float) -> str:
    """A duration as people say it: "0.8 s", "12 s", "3 min 04 s", "1 h 02 min"."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE:02d} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE:02d} min"


def duration_s(deployment: Deployment, now: datetime) -> float | None:
    """From the start of the build (of an upload: from its arrival) to its end or to *now*; None: not started."""
    if deployment.started_at is not None:
        return ((deployment.finished_at or now) - deployment.started_at).total_seconds()
    if deployment.state is State.READY and deployment.finished_at:
        return (deployment.finished_at - deployment.created_at).total_seconds()
    return None


def exact(at: datetime) -> str:
    """The whole truth of a time, for a title."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def title(deployment: Deployment) -> str:
    """What a deployment is called: its commit's first line, else what it came from."""
    if deployment.commit_message:
        return deployment.commit_message.strip().partition("\n")[0][:200]
    if deployment.commit_sha:
        return f"Commit {deployment.commit_sha[:7]}"
    if deployment.source.value == "git":
        return f"Newest commit of {deployment.branch or 'the default branch'}"
    return "Uploaded folder"
