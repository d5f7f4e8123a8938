"""docs/validation.md from the sections of the book."""

from __future__ import annotations

from servesim.validation.book import Section

HEAD = """# Validation: simulated against measured

Every number here comes from real measurements replayed through the simulator, and is written by one command:

```sh
python -m servesim.validation DATA --report docs/validation.md --figures docs/validation.json
```

`DATA` is a folder with the measured files (they are not part of this repository; each section names its source). CI
holds the code against the committed figures: `python -m servesim.validation DATA --gate docs/validation.json` says
apart whether predictions moved and whether they are accurate. An error is |simulated / measured - 1|.
"""


def page(sections: dict[str, Section]) -> str:
    """Return the whole page."""
    figures = {name: value for one in sections.values() for name, value in one.figures.items()}
    targets = {name: value for one in sections.values() for name, value in one.targets.items()}
    rows = [
        f"| `{name}` | {100 * figures[name]:.1f} % | {100 * target:.0f} % | {_met(figures[name], target)} |"
        for name, target in targets.items()
        if name in figures
    ]
    table = ["## Targets", "", "| Error | Found | Target | Met |", "|---|---|---|---|", *rows, ""]
    parts = [f"## {one.title}\n\n{one.markdown.strip()}\n" for one in sections.values()]
    return "\n".join([HEAD, *table, *parts])


def _met(figure: float, target: float) -> str:
    return "yes" if figure <= target else "no"
