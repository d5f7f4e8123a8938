"""The baseline file: what every scenario measured, from what it was made, and how much worse is too much."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from servesim.check.fingerprint import Fingerprint
from servesim.errors import InputError, Problem
from servesim.registry import Spec
from servesim.scenario.document import Node, parse_document, plain
from servesim.scenario.document_text import read_text
from servesim.scenario.load_allowed import nearest, suggestion
from servesim.scenario.load_place import child_by_name
from servesim.scenario.load_problems import in_order, placed, schema_problems
from servesim.scenario.schema import Scenario

FORMAT = "servesim-baseline-1"
Fraction = Annotated[float, Field(gt=0, lt=1)]
_ASSERTION = re.compile(r"\s*(?P<metric>[^\s<>=]+)\s*(?P<sign><=|>=)\s*(?P<limit>[0-9.eE+-]+)\s*")


class Assertion(NamedTuple):
    """A limit that a metric's mean over replications must keep."""

    metric: str
    at_most: bool
    limit: float

    def kept(self, value: float) -> bool:
        """Return whether a value keeps it."""
        return value <= self.limit if self.at_most else value >= self.limit

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if self.at_most else '>='} {self.limit:g}"


def _read(text: str) -> str:
    assertion(text)
    return text


def assertion(text: str) -> Assertion:
    """Read `ttft_s.p99 <= 0.5`; raises ValueError with a message for the reader."""
    found = _ASSERTION.fullmatch(text)
    try:
        limit = float(found["limit"]) if found else None
    except ValueError:
        limit = None
    if found is None or limit is None:
        raise ValueError(f"expected METRIC <= NUMBER or METRIC >= NUMBER, such as ttft_s.p99 <= 0.5, not {text!r}")
    return Assertion(found["metric"], found["sign"] == "<=", limit)


def limits(scenario: Scenario, own: list[Assertion]) -> list[tuple[Assertion, bool]]:
    """Return what must hold, and whether the scenario asks for it itself: `own` assertions, then its attainments."""
    asked = {
        f"{name}.slo_attainment": spec.slo.attainment
        for name, spec in scenario.workload.classes.items()
        if spec.slo.attainment is not None
    }
    return [*((one, False) for one in own), *((Assertion(name, False, share), True) for name, share in asked.items())]


class Recorded(Spec):
    """One scenario's replications. `values` have one number for each of `seeds`, in order; so have `digests`."""

    model_config = ConfigDict(populate_by_name=True)

    name: str = Field(description="the scenario's own name")
    thresholds: dict[str, Fraction] = Field(default_factory=dict, description="by metric, instead of the file's")
    asserts: list[Annotated[str, AfterValidator(_read)]] = Field(
        default_factory=list, alias="assert", description="limits: ttft_s.p99 <= 0.5"
    )
    made_from: Fingerprint
    overloaded: bool = False
    seeds: list[int] = Field(min_length=2)
    digests: list[str] = Field(description="of each replication's whole summary")
    values: dict[str, list[float]] = Field(min_length=1, description="by metric")

    @model_validator(mode="after")
    def _one_of_each_per_seed(self) -> Self:
        counts = {"digests": len(self.digests), **{f"values.{name}": len(found) for name, found in self.values.items()}}
        for where, count in counts.items():
            if count != len(self.seeds):
                raise ValueError(f"{where}: {count} for {len(self.seeds)} seeds; --update makes it anew")
        return self

    @property
    def assertions(self) -> list[Assertion]:
        """The limits."""
        return [assertion(text) for text in self.asserts]


class Baseline(Spec):
    """The whole file. `level` is the chance of any false alarm in one check."""

    format: Literal["servesim-baseline-1"]
    level: Fraction = Field(0.05, description="chance that a check in which nothing changed finds a regression")
    threshold: Fraction = Field(0.02, description="relative change below which being worse does not matter")
    detectable: Fraction = Field(0.1, description="a metric in which less than this could be missed is inconclusive")
    scenarios: dict[str, Recorded] = Field(default_factory=dict, description="by path, relative to this file")

    @model_validator(mode="after")
    def _can_be_detected(self) -> Self:
        if self.detectable <= self.threshold:
            raise ValueError(f"detectable: must be above threshold ({self.threshold:g}), got {self.detectable:g}")
        return self


EMPTY = Baseline(format=FORMAT)  # type: ignore[arg-type]


def _unknown_thresholds(found: Baseline, root: Node) -> Iterator[Problem]:
    for key, one in found.scenarios.items():
        place = child_by_name(root, f"scenarios.{key}")
        for name in one.thresholds:
            if name not in one.values:
                here = None if place is None else child_by_name(place.node, f"thresholds.{name}")
                message = f"unknown metric{suggestion(name, one.values)}; known: {', '.join(one.values)}"
                yield placed(message, f"scenarios.{key}.thresholds.{name}", root.mark if here is None else here.key)


def load_baseline(path: Path) -> Baseline:
    """Read a baseline file; raises InputError with every problem, its line and column."""
    if not path.exists():
        raise InputError(Problem("there is no such baseline; the same command with --update makes it", file=str(path)))
    document = parse_document(read_text(path, str(path)), str(path))
    if not isinstance(document.root.value, dict):
        raise InputError(Problem(f"is no baseline: expected a mapping with format: {FORMAT}", file=str(path)))
    try:
        found = Baseline.model_validate(plain(document.root))
    except ValidationError as error:
        raise InputError(in_order([*document.problems, *schema_problems(error, document.root, Baseline)])) from None
    problems = [*document.problems, *_unknown_thresholds(found, document.root)]
    if problems:
        raise InputError(in_order(problems))
    return found


def key_of(scenario: Path, baseline: Path) -> str:
    """Return under which name a baseline has a scenario: its path relative to the baseline's folder."""
    return Path(os.path.relpath(scenario.resolve(), baseline.resolve().parent)).as_posix()


def recorded(found: Baseline, scenario: Path, name: str, baseline: Path) -> Recorded:
    """Return what a baseline has of a scenario; InputError where it has nothing, or that of another one."""
    key = key_of(scenario, baseline)
    if key not in found.scenarios:
        near = nearest(key, found.scenarios)
        hint = f"did you mean {near}? " if near else f"it has {', '.join(found.scenarios) or 'none at all'}; "
        raise InputError(Problem(f"has no scenario {key!r}; {hint}--update adds it", file=str(baseline)))
    one = found.scenarios[key]
    if one.name != name:
        message = f"is of another scenario: {one.name!r}, while {scenario} is {name!r}; --update replaces it"
        raise InputError(Problem(message, f"scenarios.{key}", str(baseline)))
    return one


def save_baseline(found: Baseline, path: Path) -> None:
    """Write a baseline as YAML, or as JSON where the name ends in .json; a killed write leaves the old one.

    Raises InputError if it would be too large to be read again.
    """
    data = found.model_dump(by_alias=True, mode="json")
    for one in data["scenarios"].values():
        for key in ("thresholds", "assert"):
            if not one[key]:
                del one[key]
    json_text = json.dumps(data, indent=1) + "\n"
    text = json_text if path.suffix == ".json" else yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120)
    parse_document(text, f"{path} (new)")
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).chmod(0o644)
    Path(name).replace(path)


class _Dumper(yaml.SafeDumper):
    """Writes lists of numbers in rows."""


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    text = repr(value)  # the shortest that reads as the same float; readers of YAML 1.1 want a point in it too
    return dumper.represent_scalar("tag:yaml.org,2002:float", text if "." in text else text.replace("e", ".0e"))


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    # A digest of digits only, or such as 12e4, is text: every reader must see that.
    style = "'" if any(char.isdigit() for char in value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(float, _number)
_Dumper.add_representer(str, _text)
