"""What a result depends on, as digests: if a number moved, which of them changed says whose doing it is."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import servesim
from servesim.deploy.overlay import said
from servesim.registry import Spec, families, kinds
from servesim.scenario.document import parse_document, plain
from servesim.scenario.document_text import read_text
from servesim.scenario.load_allowed import schema_fields
from servesim.scenario.schema import Scenario

PACKAGE = Path(servesim.__file__).parent
_NO_NUMBERS = ("cli", "report", "check", "calibrate", "emulate")  # they say or measure, and change no result
_NOT_COMPARED = ("seed", "description")
_FILE_KEYS = ("path", "file", "config")
_LENGTH = 16


class Fingerprint(Spec):
    """Digests (the first 16 hex digits of SHA-256) and versions.

    `scenario` is of the parsed document (so without comments and order) and the files it names, seed and description
    left out; `policies` of the source files of the registered classes used, bases included; `code` of the rest of
    servesim, without what only shows results; `calibration` of service times, their facts and files.
    """

    servesim: str
    code: str
    scenario: str
    calibration: str
    policies: dict[str, str]
    engine: dict[str, str]
    python: str
    numpy: str


def fingerprint(
    scenario: Scenario,
    file: Path,
    provenance: Mapping[str, Any],
    package: Path = PACKAGE,
    deployed: Sequence[str] = (),
) -> Fingerprint:
    """Return what a run of `scenario`, read from `file` with pools as `deployed`, rests on.

    `provenance` is a summary's. `package` is the folder of the servesim that ran it: another one has the sources of
    policies at the same places.
    """
    return Fingerprint(
        servesim=provenance["servesim"],
        code=_code(package),
        scenario=_scenario(scenario, file, deployed),
        calibration=_calibration(provenance["service_times"], package),
        policies={name: _sources(cls, package) for name, cls in sorted(_used(scenario).items())},
        engine={name: str(value) for name, value in provenance["engine_semantics"].items()},
        python=provenance["python"],
        numpy=provenance["numpy"],
    )


def changes(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Return in words what differs, the most telling first."""
    found = ["the scenario"] if old.scenario != new.scenario else []
    for name in sorted({*old.policies, *new.policies}):
        if old.policies.get(name) != new.policies.get(name):
            how = "is new" if name not in old.policies else "is gone" if name not in new.policies else "changed"
            found.append(f"{name} ({how})")
    if old.calibration != new.calibration:
        found.append("the calibration")
    if old.engine != new.engine:
        found.append("the engine's semantics")
    if (old.servesim, old.code) != (new.servesim, new.code):
        versions = f" ({old.servesim} to {new.servesim})" if old.servesim != new.servesim else ""
        found.append(f"servesim itself{versions}")
    for name in ("python", "numpy"):
        if getattr(old, name) != getattr(new, name):
            found.append(f"{name} ({getattr(old, name)} to {getattr(new, name)})")
    return found


def digest(parts: Iterable[bytes]) -> str:
    """Return one digest of byte strings, each with its length."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.hexdigest()[:_LENGTH]


def digest_of(value: Any) -> str:
    """Return the digest of plain data; the order of keys does not matter."""
    return digest([json.dumps(value, sort_keys=True).encode()])


def _code(package: Path) -> str:
    """Return the digest of servesim's modules but those of registered kinds, which are digested where they are used."""
    kinds_files = {_place(cls) for family in families() for cls in kinds(family).values()}
    files = sorted(
        (file.relative_to(package).as_posix(), file)
        for file in package.rglob("*.py")
        if file.relative_to(package).parts[0] not in _NO_NUMBERS
    )
    return digest(part for name, file in files if name not in kinds_files for part in (name.encode(), _bytes(file)))


def _bytes(file: Path) -> bytes:
    """Return a text file's bytes, whatever line ends a checkout gave it."""
    return file.read_bytes().replace(b"\r\n", b"\n")


def _place(cls: type[Any]) -> str | None:
    """Return where below the package a class is defined; None outside of it."""
    module = cls.__module__
    return f"{module.removeprefix('servesim.').replace('.', '/')}.py" if module.startswith("servesim.") else None


def _sources(cls: type[Any], package: Path) -> str:
    """Return the digest of the files that define a class and its bases; of a class without a file, of its name."""
    found = []
    for one in cls.__mro__:
        if one.__module__.split(".")[0] in ("builtins", "abc", "pydantic", "typing"):
            continue
        place = _place(one)
        if place is not None:
            file = package / place
            found.append(_bytes(file) if file.exists() else b"")
            continue
        try:
            found.append(inspect.getsource(inspect.getmodule(one) or one).encode())
        except (OSError, TypeError):
            found.append(one.__qualname__.encode())
    return digest(found)


def _used(value: Any) -> dict[str, type[Any]]:
    """Return the registered classes in a scenario by "family/kind"."""
    found: dict[str, type[Any]] = {}
    for part in _parts(value):
        for family in families():
            if kinds(family).get(getattr(part, "kind", "")) is type(part):
                found[f"{family}/{part.kind}"] = type(part)
    return found


def _parts(value: Any) -> Iterator[Any]:
    """Yield every specification in a scenario."""
    if fields := schema_fields(type(value)):
        yield value
        for name in fields:
            yield from _parts(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _parts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parts(item)


def _scenario(scenario: Scenario, file: Path, deployed: Sequence[str]) -> str:
    root = parse_document(read_text(file, str(file)), str(file)).root
    document = {key: value for key, value in plain(root).items() if key not in _NOT_COMPARED}
    files = [
        Path(found)
        for part in _parts(scenario)
        for key in _FILE_KEYS
        if isinstance(found := getattr(part, key, None), str) and Path(found).is_absolute()
    ]
    contents = (content for path in files for content in _contents(path))
    flags = [json.dumps(said(source, scenario), sort_keys=True).encode() for source in deployed]
    return digest([json.dumps(document, sort_keys=True).encode(), *contents, *flags])


def _contents(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield file.relative_to(path).as_posix().encode()
                yield file.read_bytes()
    elif path.is_file():
        yield path.read_bytes()


def _calibration(service_times: Mapping[str, Any], package: Path) -> str:
    found = [json.dumps(service_times, sort_keys=True).encode()]
    for one in service_times.values():
        for folder in ("calibrations", "batch_calibrations"):
            file = package / "catalog" / folder / f"{one['name']}.yaml"
            if file.is_file():
                found.append(_bytes(file))
    return digest(found)
