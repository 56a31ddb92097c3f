"""``explain``: why a visit is answered as it is."""

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from scalemesh.cli.output import examples, is_colourful, json_option, show_json
from scalemesh.cli.server import client, place_options

Json = dict[str, Any]
SERVED: Final = {
    "memory": "served from memory",
    "file": "too large for memory: read at each visit",
    "made": "our own words, made on the spot",
    "origin": "sent by the other origin",
    "nothing": "no body is sent",
}


@click.command(
    epilog=examples(
        "scalemesh explain http://shop.localhost:8080/old-page",
        "scalemesh explain shop.example.com/ -H 'Accept-Language: fr' -H 'Cookie: beta=yes'",
        "scalemesh explain shop.example.com/api/orders --method POST --json",
    )
)
@click.argument("address", metavar="URL")
@click.option(
    "-H",
    "--header",
    "lines",
    multiple=True,
    metavar="LINE",
    help="A header of the visit, as 'Name: value'; repeatable.",
)
@click.option("--method", default="GET", metavar="METHOD", help="Default: GET.")
@json_option
@place_options
@click.pass_context
def explain(ctx: click.Context, /, *, address: str, lines: Sequence[str], method: str, as_json: bool) -> None:
    """Explain what a visit of URL is answered, and why.

    From host to deployment; each rule that is tried, with its file and line, and why it does or does not match; the
    file that is chosen; each header, and who set it; how long the answer is kept, and by whom. The daemon decides the
    visit as it does for visitors; nothing is changed, and no other origin is asked.
    """
    body = {"url": address, "method": method.upper(), "headers": [_pair(line) for line in lines]}
    found = client(ctx).post("/api/v1/explain", body)
    if as_json:
        show_json(found)
        return
    _Told(found).show()


def _pair(line: str) -> list[str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {line[:60]!r}: write it as 'Name: value'")
    return [name.strip(), value.strip()]


class _Told:
    """An explanation as lines, coloured on a terminal."""

    def __init__(self, found: Json) -> None:
        self._found, self._is_colourful = found, is_colourful(sys.stdout)

    def show(self) -> None:
        found = self._found
        self._line(found["leads_to"])
        self._facts()
        if found["steps"]:
            self._head("Rules, as they were tried")
            self._steps()
        for head, name in (("Headers", "headers"), ("Headers that rules took away, or set in vain", "withheld")):
            if found[name]:
                self._head(head)
                self._headers(found[name])
        if found["caching"]:
            self._head("Caching")
            self._caching(found["caching"])

    def _facts(self) -> None:
        found = self._found
        if found["status"] is not None:
            self._line(f"{self._style(str(found['status']), bold=True)}  {found['because']}")
        if proxied := found["proxied"]:
            self._line(f"{self._style('proxied', bold=True)} to {proxied['url']}  {found['because']}")
            sent = "go along" if proxied["keeps_credentials"] else "stay here"
            self._line(f"  Cookie and Authorization {sent}")
            if proxied["request_headers"]:
                self._line(f"  sent besides: {', '.join(proxied['request_headers'])}")
        if found["file"]:
            former = f" (of {found['former_deployment']}, by the asset window)" if found["former_deployment"] else ""
            self._line(f"  file /{found['file']}{former}")

    def _steps(self) -> None:
        found = self._found
        wheres = [f"{step['file']}:{step['line']}" if step["line"] else step["file"] for step in found["steps"]]
        width = max(map(len, wheres))
        for step, where in zip(found["steps"], wheres, strict=True):
            what = f"{step['what']}: " if step["what"] else ""
            text = f"{'+' if step['matched'] else '-'} {where:<{width}}  {what}{step['why']}"
            self._line(f"  {self._style(text, fg='green') if step['matched'] else self._style(text, dim=True)}")
        if found["steps_left_out"]:
            self._line(f"  and {found['steps_left_out']} more that did not match")

    def _headers(self, headers: Sequence[Json]) -> None:
        for header in headers:
            text = f"  {header['name']}: {header['value']}" if header["value"] else f"  {header['name']}"
            self._line(text)
            self._line(self._style(f"      {header['by']}: {header['why']}", dim=True))

    def _caching(self, caching: Json) -> None:
        self._line(f"  {caching['says']}")
        same = "The same for everybody who asks for this address." if caching["same_for_all"] else ""
        self._line(f"  {same or 'It may differ from visitor to visitor.'}")
        self._line(f"  {SERVED[caching['served_from']][0].upper()}{SERVED[caching['served_from']][1:]}.")

    def _head(self, text: str) -> None:
        self._line("")
        self._line(self._style(text, bold=True))

    def _style(self, text: str, **style: Any) -> str:
        return click.style(text, **style) if self._is_colourful else text

    def _line(self, text: str) -> None:
        click.echo(text)
