"""`python -m servesim.validation DATA`: write the validation book, or hold the present code against the written one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from servesim.errors import InputError
from servesim.validation.book import SECTIONS, Section, collect, compare, dumps
from servesim.validation.page import page


def main() -> int:
    """Run the command; 0 if the gates hold, 3 if predictions moved or lost accuracy, 2 for missing data."""
    parser = argparse.ArgumentParser(prog="python -m servesim.validation", description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the measured data, with `validation/` in it")
    parser.add_argument("--report", type=Path, help="write the page here, and its pictures beside it")
    parser.add_argument("--figures", type=Path, help="write the figures here")
    parser.add_argument("--errors", type=Path, help="write the errors that results of these deployments carry here")
    parser.add_argument("--gate", type=Path, help="compare with the figures committed here")
    parser.add_argument("--only", action="append", default=[], metavar="SECTION", help="only this section; repeatable")
    options = parser.parse_args()
    names = [module.rpartition(".")[2] for module in SECTIONS]
    if unknown := sorted(set(options.only) - set(names)):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(names)}")
    try:
        sections = dict(collect(options.data, tuple(options.only)))
    except (OSError, InputError) as error:
        print(error, file=sys.stderr)
        return 2
    figures = {name: value for one in sections.values() for name, value in one.figures.items()}
    targets = {name: value for one in sections.values() for name, value in one.targets.items()}
    if options.report:
        options.report.write_text(page(sections), encoding="utf-8")
        for one in sections.values():
            for name, write in one.pictures.items():
                write(options.report.parent / name)
    if options.figures:
        options.figures.write_text(dumps(figures, targets), encoding="utf-8")
    if options.errors:
        options.errors.write_text(errors_yaml(sections), encoding="utf-8")
    return gate(options.gate, figures, targets, bool(options.only)) if options.gate else 0


def errors_yaml(sections: dict[str, Section]) -> str:
    """Return the text of servesim/catalog/validation/errors.yaml."""
    entries = [error.model_dump(exclude_defaults=True) for one in sections.values() for error in one.errors]
    head = (
        "# Written by `python -m servesim.validation DATA --errors FILE`: errors of whole runs, docs/validation.md.\n"
    )
    return head + str(yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=120))


def gate(path: Path, figures: dict[str, float], targets: dict[str, float], partly: bool) -> int:
    """Print both verdicts apart and return the exit code."""
    committed = json.loads(path.read_text(encoding="utf-8"))
    if partly:
        heads = {name.split(".")[0] for name in figures}
        committed = {
            key: {name: value for name, value in part.items() if name.split(".")[0] in heads}
            for key, part in committed.items()
        }
    verdict = compare(figures, targets, committed)
    print(f"did predictions move: {len(verdict.moved) or 'no'}")
    for name, (old, new) in verdict.moved.items():
        print(f"  {name}: {_share(old)} -> {_share(new)}")
    print(f"are they accurate: {'no' if verdict.new_misses else 'yes'}, known misses {len(verdict.known_misses)}")
    for title, found in (("NEW MISS", verdict.new_misses), ("known miss", verdict.known_misses)):
        for name, (value, target) in found.items():
            print(f"  {title} {name}: {_share(value)} over {_share(target)}")
    return 3 if verdict.moved or verdict.new_misses else 0


def _share(value: float | None) -> str:
    return "absent" if value is None else f"{100 * value:.2f} %"


if __name__ == "__main__":
    sys.exit(main())
