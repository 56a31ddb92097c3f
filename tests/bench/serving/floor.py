"""What an answer costs before anybody has looked at its request: the least that any server on this event loop pays."""

from typing import Final

from tests.bench.measure import Figure
from tests.bench.serving import asked, contenders, sites
from tests.bench.serving.bench import Bench, Target, rate_figure, take_turns
from tests.bench.serving.load import write_plan

ROW: Final = "floor"
SIZES: Final = {"300 bytes, constant": 250, "2.5 KB, constant": 2450}


async def measure(bench: Bench) -> list[Figure]:
    """Rates of constant answers of the size of a 304 and of a page."""
    figures = []
    plan = bench.folder / "plans" / ROW
    plan.parent.mkdir(exist_ok=True)
    write_plan(plan, asked.evenly(asked.PAGE, [sites.host(number) for number in range(sites.HOSTS)]))
    for name, size in SIZES.items():
        async with contenders.constant(bench, size) as served:
            rates = await take_turns(bench, ROW, {name: Target(served=served, plan=plan)})
            figures.append(rate_figure(ROW, name, rates[name]))
    return figures
