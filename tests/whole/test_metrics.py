"""What a scraper learns of a daemon that serves and builds."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.whole.daemon import repository, running_daemon


async def test_visits_and_log_lines_are_counted(tmp_path: Path) -> None:
    async with running_daemon(tmp_path) as daemon:
        deployment = await daemon.deploy(repository(tmp_path, "counted", {"index.html": "12345"}))
        await daemon.until(deployment, "ready")
        await daemon.until_said(deployment, "Ready")  # its last line: they are counted below
        for path in ("/", "/", "/none.png"):
            await daemon.visit("counted.localhost", path)

        async def told() -> str:
            async with daemon.session() as session, session.get("http://x/metrics") as answer:
                return await answer.text()

        await daemon.eventually(lambda: counts_three(told))
        text = await told()
        figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert figures['scalemesh_visits_total{status="200"}'] == "2.0"
        assert figures['scalemesh_visits_total{status="404"}'] == "1.0"
        assert float(figures["scalemesh_visit_bytes_total"]) >= 10
        assert float(figures["scalemesh_log_lines_total"]) == len(await daemon.lines(deployment))
        assert figures['scalemesh_deployments{state="ready"}'] == "1.0"


async def counts_three(told: Callable[[], Awaitable[str]]) -> bool:
    """Whether all visits are counted: those that were answered at once are told a moment later."""
    text = await told()
    return 'visits_total{status="200"} 2.0' in text and 'visits_total{status="404"} 1.0' in text
