"""Two serving processes on one port."""

from typing import Final

from tests.bench.measure import Figure
from tests.bench.serving import asked, sites
from tests.bench.serving.bench import Bench, Target, rate_figure, ratio_figure, take_turns
from tests.bench.serving.load import write_plan
from tests.bench.serving.ours import our_daemon, served_by
from tests.bench.serving.plain import prepare

ROW: Final = "workers"
COUNT: Final = 2


async def measure(bench: Bench) -> list[Figure]:
    """One daemon with COUNT workers on COUNT cores, asked for pages; the same with one worker on one core before it."""
    home, plan = await prepare(bench), bench.folder / "plans" / ROW
    write_plan(plan, asked.evenly(asked.PAGE, [sites.host(number) for number in range(sites.HOSTS)]))
    async with our_daemon(bench, home) as daemon:
        one = await take_turns(bench, ROW, {"1": Target(served=served_by(daemon), plan=plan)})
    async with our_daemon(bench, home, edge=f"workers = {COUNT}", cores=COUNT) as daemon:
        two = await take_turns(bench, ROW, {"2": Target(served=served_by(daemon), plan=plan)})
    shared = "" if len(bench.cores.numbers) > COUNT else ", the load shares a core with them"
    return [
        rate_figure(ROW, "pages with 1 worker", one["1"]),
        rate_figure(ROW, f"pages with {COUNT} workers{shared}", two["2"]),
        ratio_figure(ROW, f"{COUNT} workers / 1", two["2"], one["1"]),
    ]
