"""The same scenario at another git revision: its own servesim, run beside this one in a work tree of that revision."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from servesim.check.fingerprint import PACKAGE, Fingerprint, fingerprint
from servesim.check.measure import Replication
from servesim.errors import InputError, Problem, ServesimError
from servesim.scenario.load import load

# Only what every version has: servesim.load and servesim.simulate. One line in (a seed), one line out.
_RUNNER = """
import json, sys, time, traceback
def answer(found):
    sys.__stdout__.write(json.dumps(found) + "\\n")
    sys.__stdout__.flush()
out, sys.stdout = sys.stdout, sys.stderr
try:
    sys.path.append(sys.argv[3])  # where the other tree has no servesim, it is ours
    import servesim
    scenario = servesim.load(sys.argv[1], allow_paths=json.loads(sys.argv[2]))
    answer({"package": servesim.__file__})
    for line in sys.stdin:
        started = time.process_time()
        result = servesim.simulate(scenario, int(line))
        numbers = getattr(result, "numbers", None) or result.summary
        steady = getattr(result, "steady", True)
        answer({"numbers": numbers, "overloaded": not steady, "cpu_s": time.process_time() - started})
except Exception as error:
    known = getattr(error, "exit_code", 1) == 2
    answer({"error": str(error) if known else f"{type(error).__name__}: {error}", "input": known})
"""


@contextmanager
def work_tree(ref: str, inside: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (the repository's root, a temporary work tree of `ref`); removed in the end.

    Raises InputError if `inside` is in no git repository, or that has no such revision.
    """
    root = Path(_git(inside, "rev-parse", "--show-toplevel", fault="is in no git repository, --against needs one"))
    said = f"--against {ref}"
    if ref.startswith("-"):
        raise InputError(Problem("a revision does not begin with a dash", file=said))
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", fault=f"{said}: {_NO_REF}", own=True)
    with tempfile.TemporaryDirectory(prefix="servesim-against-") as folder:
        tree = Path(folder).resolve() / "tree"
        _git(
            root,
            "worktree",
            "add",
            "--detach",
            "--quiet",
            str(tree),
            commit,
            fault=f"{said}: cannot be checked out",
            own=True,
        )
        try:
            yield root.resolve(), tree
        finally:
            subprocess.run(["git", "-C", str(root), "worktree", "remove", "--force", str(tree)], capture_output=True)


_NO_REF = "no such commit, branch or tag; in CI fetch it first (actions/checkout: fetch-depth: 0)"


def _git(folder: Path, *arguments: str, fault: str, own: bool = False) -> str:
    """Return what git says; InputError with `fault`, about `folder` unless it is a sentence of its `own`."""
    try:
        found = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise InputError("--against needs git, which is not installed") from None
    if found.returncode:
        words = found.stderr.strip().splitlines()
        detail = f" (git: {words[-1]})" if words and own else ""
        raise InputError(fault + detail if own else f"{folder}: {fault}")
    return found.stdout.strip()


class There:
    """A scenario as it is in another work tree, run by what is there. Close it in the end."""

    def __init__(self, file: Path, root: Path, tree: Path, ref: str, allow_paths: tuple[Path, ...] = ()) -> None:
        try:
            place = file.resolve().relative_to(root)
        except ValueError:
            raise InputError(f"{file}: lies outside the repository {root}, so --against cannot find it there") from None
        self.file = tree / place
        self._said, self._tree, self._file = f"at {ref}", tree, file
        self._allow_paths = allow_paths
        if not self.file.is_file():
            raise InputError(
                Problem(f"does not exist {self._said}; commit it first, or use --baseline", file=str(file))
            )
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed in close)
        allowed = json.dumps([str(path.resolve()) for path in allow_paths])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _RUNNER, str(self.file), allowed, str(PACKAGE.parent)],
            cwd=tree,
            env=_environment(tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.package = Path(self._answer()["package"]).parent

    def run(self, seed: int) -> Replication:
        """Run one replication there."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{seed}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died, and its last words are read next
        found = self._answer()
        return Replication(seed, found["numbers"], found["overloaded"], found["cpu_s"])

    def made_from(self, replication: Replication) -> Fingerprint:
        """Return what a replication rests on. The kinds are those that this version knows by the same names."""
        scenario = load(self.file, allow_paths=self._allow_paths)
        return fingerprint(scenario, self.file, replication.numbers["provenance"], self.package)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"error": self._last_words(), "input": False}
        if "error" in found:
            self.close()
            # Not where the tree lay, which is gone by now: by the name it has in the repository.
            words = found["error"].replace(str(self.file), str(self._file)).replace(f"{self._tree}{os.sep}", "")
            message = "\n".join(f"{self._said}: {line}" for line in words.splitlines())
            raise InputError(message) if found["input"] else ServesimError(message)
        return found

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else "ended without a word"


def _environment(tree: Path) -> dict[str, str]:
    """Return this process's environment, with the other tree's modules first."""
    homes = [str(home) for home in (tree, tree / "src") if home.is_dir()]
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*homes, *([inherited] if inherited else [])])}
