"""Writes the chapters of the handbook site: the same Markdown each time, as much of it as is asked for."""

import random
from pathlib import Path
from typing import Final

SEED: Final = 20  #: the same chapters for every run, so that figures can be compared
SECTIONS: Final = 5
WORDS: Final = (
    "a the of to and in is that for it as with on by this release branch commit page route server cache header visit "
    "request answer manifest bundle module style layout chapter handbook reader editor writer deploy preview rollback "
    "domain certificate queue worker log line number digest folder archive mirror token secret variable limit memory"
)
CODE: Final = """```ts
export async function load{n}(route: string, limit = {limit}): Promise<Page[]> {{
  const answer = await fetch(`/api/${{route}}?limit=${{limit}}`, {{ headers: {{ accept: "application/json" }} }});
  if (!answer.ok) throw new Error(`the server answered ${{answer.status}}`);
  const pages: Page[] = await answer.json();
  return pages.filter((page) => page.number % {n} === 0).sort((a, b) => a.title.localeCompare(b.title));
}}
```
"""


def write_chapters(folder: Path, count: int) -> None:
    """Write *count* chapters of about 5 kB each: prose, headings, a table, and code that is to be coloured."""
    chance = random.Random(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        (folder / f"chapter-{number:04}.md").write_text(_chapter(number, chance))


def _chapter(number: int, chance: random.Random) -> str:
    title = f"{number}. {_sentence(chance, 4)}"
    head = f'---\ntitle: "{title}"\nchapter: {number}\nsummary: "{_sentence(chance, 12)}"\n---\n\n'
    return head + "\n".join(_section(part, chance) for part in range(1, SECTIONS + 1))


def _section(part: int, chance: random.Random) -> str:
    paragraphs = "\n\n".join(" ".join(_sentence(chance, 14) + "." for _ in range(4)) for _ in range(2))
    rows = "\n".join(
        f"| {_sentence(chance, 1)} | {chance.randrange(1000)} | `{_sentence(chance, 1)}` |" for _ in range(4)
    )
    table = f"| name | value | setting |\n| --- | ---: | --- |\n{rows}\n"
    code = CODE.format(n=part + 1, limit=chance.randrange(10, 100))
    return f"## {_sentence(chance, 5)}\n\n{paragraphs}\n\n{table}\n{code}"


def _sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS.split(), k=words)).capitalize()
