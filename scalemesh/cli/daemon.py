"""``serve``, ``check``, ``plugins``, ``version``: the daemon's own verbs, which talk to nobody."""

import asyncio

import click

from scalemesh.cli.output import FAILED, examples, json_option, show_json, table
from scalemesh.cli.server import Place, place_options


@click.command(epilog=examples("scalemesh serve --config /etc/scalemesh/config.toml"))
@place_options
@click.pass_context
def serve(ctx: click.Context, /) -> None:
    """Run the daemon in the foreground.

    Prints the dashboard's address once it listens. SIGTERM ends it; running builds go on, and the next start adopts
    them.
    """
    import uvloop  # noqa: PLC0415 -- the daemon's imports are no other verb's business

    from scalemesh import wiring  # noqa: PLC0415
    from scalemesh.config import load  # noqa: PLC0415
    from scalemesh.daemon import log_to_stderr  # noqa: PLC0415
    from scalemesh.services.links import Links  # noqa: PLC0415

    config = load(ctx.ensure_object(Place).config_path())
    log_to_stderr()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wiring.serve(config, lambda daemon: click.echo(Links(config.hosts, daemon.port).control)))


@click.command(epilog=examples("scalemesh check --executor docker"))
@click.option("--executor", metavar="KIND", help="Prove this executor alone. Default: all plug-ins.")
@json_option
@place_options
@click.pass_context
def check(ctx: click.Context, /, *, executor: str | None, as_json: bool) -> int:
    """Prove that config and plug-ins work.

    Opens every plug-in and tries it; prints all mistakes at once, and how to mend each. Exit code 1: there are some.
    """
    from scalemesh import wiring  # noqa: PLC0415 -- as above
    from scalemesh.config import load  # noqa: PLC0415

    path = ctx.ensure_object(Place).config_path()
    found = asyncio.run(wiring.check(load(path), executor))
    is_well = all(finding.ok for _, finding in found)
    if as_json:
        show_json([{"part": part, "ok": one.ok, "what": one.what, "fix": one.fix} for part, one in found])
        return 0 if is_well else FAILED
    click.echo(f"ok      {path}")
    for part, finding in found:
        click.echo(f"{'ok' if finding.ok else 'FAILED':<6}  {part}: {finding.what}")
        if finding.fix:  # of what works, it makes it better
            click.echo(f"        fix: {finding.fix}")
    return 0 if is_well else FAILED


@click.command()
@json_option
def plugins(*, as_json: bool) -> None:
    """List the plug-ins that are installed."""
    from scalemesh import registry  # noqa: PLC0415 -- as above

    found = [
        {"point": point, "kind": kind, "from": entry.value, "package": entry.dist.name if entry.dist else None}
        for point, kinds in registry.installed().items()
        for kind, entry in sorted(kinds.items())
    ]
    if as_json:
        show_json(found)
        return
    table(
        ["POINT", "KIND", "PACKAGE", "FROM"],
        [[one["point"], one["kind"], one["package"], one["from"]] for one in found],
    )


@click.command()
def version() -> None:
    """Print the version."""
    from importlib import metadata  # noqa: PLC0415 -- slow to import

    try:
        click.echo(metadata.version("scalemesh"))
    except metadata.PackageNotFoundError:
        click.echo("unknown")
