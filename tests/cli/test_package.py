"""What an installation holds is enough: the catalog, the calibrations and the scenarios travel with the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("setuptools", reason="the package is built by setuptools, which is not installed")

ROOT = Path(__file__).parents[2]
_BUILD = "import setuptools; setuptools.setup()"


def _run(*arguments: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COVERAGE_FILE")}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that setuptools puts into a wheel; building needs no network."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "servesim", source / "servesim", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("installed")
    built = _run("-c", _BUILD, "-q", "build", "--build-lib", str(target), cwd=source)
    assert built.returncode == 0, built.stderr
    return target


def _servesim(installed: Path, folder: Path, *arguments: str) -> str:
    # The source tree may be installed in this environment for editing; the path goes before that.
    where = "import servesim; print(servesim.__file__)"
    assert _run("-c", where, cwd=folder, path=installed).stdout.startswith(str(installed))
    done = _run("-m", "servesim", *arguments, cwd=folder, path=installed)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_data_files_travel_with_the_package(installed: Path) -> None:
    def data(root: Path) -> set[str]:
        folders = os.walk(root / "servesim", followlinks=True)  # the source tree links to its scenarios
        files = (Path(folder, name) for folder, _, names in folders for name in names)
        return {str(path.relative_to(root)) for path in files if path.suffix not in (".py", ".pyc")}

    assert data(installed) == data(ROOT)
    assert len([name for name in data(installed) if "calibrations" in name]) > 500


@pytest.mark.slow
def test_the_command_line_works_outside_the_source_tree(installed: Path, tmp_path: Path) -> None:
    assert "h100_sxm" in _servesim(installed, tmp_path, "list", "gpus")
    assert "vllm" in _servesim(installed, tmp_path, "list", "calibrations", "--gpu", "a100", "--model", "llama-3.1-8b")
    assert "bench/w1" in _servesim(installed, tmp_path, "list", "examples")
    _servesim(installed, tmp_path, "new", "-o", "chat.yaml", "--name", "chat")
    assert '"chat"' in _servesim(installed, tmp_path, "run", "chat.yaml", "--format", "json", "--quiet")
