"""The house stays in order: imports point downwards, policies do not know SimPy, heavy things load late."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import ROOT

PACKAGE = ROOT / "servesim"

# From the ground up; a module may import from its own floor and from those below.
FLOORS = [
    {"errors", "rng", "registry", "request"},
    {"catalog"},
    {"service_time", "workload"},
    {"metrics", "policies"},
    {"engine", "system"},
    {"scenario"},
    {"provenance", "deploy"},
    {"experiment"},
    {"check"},
    {"report", "calibrate"},
    {"validation"},
    {"cli", "__main__", "__init__", "pytest_plugin"},
]
FLOOR_OF = {name: level for level, names in enumerate(FLOORS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """Return the top-level part of `servesim.x.y`."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> set[str]:
    """Return the modules a file imports at its top level or inside functions, type-checking blocks left out."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path: Path) -> None:
    own = room(name_of(path))
    assert own in FLOOR_OF, f"{own} has no floor yet: give it one in FLOORS"
    for module in imports(path):
        if module.startswith("servesim."):
            assert FLOOR_OF[room(module)] <= FLOOR_OF[own], f"{name_of(path)} imports {module} from a floor above"


@pytest.mark.parametrize("path", sorted((PACKAGE / "policies").rglob("*.py")), ids=name_of)
def test_policies_never_see_the_clock(path: Path) -> None:
    for module in imports(path):
        assert not module.startswith(("simpy", "servesim.system", "servesim.engine")), f"{name_of(path)}: {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_torch_is_known_to_calibrate_only(path: Path) -> None:
    if "calibrate" not in path.parts:
        assert not any(module.split(".")[0] == "torch" for module in imports(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_grows_without_bound(path: Path) -> None:
    """About 250 lines is the habit; the two engines are one idea each and need more."""
    limit = {"continuous.py": 750, "reference.py": 550}.get(path.name, 400)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


def test_help_does_not_wait_for_the_simulator() -> None:
    """`import servesim` and the command line load neither numpy nor pydantic until they are used."""
    code = "import servesim.cli, sys; print([m for m in ('numpy', 'pydantic', 'pandas', 'simpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
