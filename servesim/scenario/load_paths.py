"""Files that a scenario names: found beside the scenario, and nowhere else unless allowed.

By convention `path` and `file` in a mapping with `kind` name a file to read, and so does `config` below `model`. The
`path` of a kind made of several files may also name their folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from servesim.errors import Problem
from servesim.scenario.document import MAX_PROBLEMS, Node, children_of, dotted
from servesim.scenario.document import Path as KeyPath
from servesim.scenario.document_scalar import shortened
from servesim.scenario.load_overrides import is_override
from servesim.scenario.load_problems import placed

_LONGEST_PATH = 1000
MAX_FILES = 1000
_FILE_KEYS = ("path", "file")
_MODEL_KEYS = ("config",)
_FOLDER_KINDS = ("servegen",)
ENVIRONMENT = "SERVESIM_ALLOW_PATH"


class Folders:
    """Where files may lie: the scenario's folder, those allowed by the caller, and those of SERVESIM_ALLOW_PATH."""

    def __init__(self, folder: Path, allow_paths: Sequence[str | Path]) -> None:
        self.folder = folder.resolve()
        from_environment = [part for part in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if part]
        self.allowed = [self.folder, *(Path(part).resolve() for part in (*allow_paths, *from_environment))]

    def find(self, text: str, *, trusted: bool, or_folder: bool = False) -> Path:
        """Return the absolute path of the file called `text`; a trusted one is relative to the current directory.

        Raises ValueError, with a message for the reader, if it lies outside or is no regular file (nor a folder, where
        `or_folder`).
        """
        if not text or "\0" in text or len(text) > _LONGEST_PATH:
            raise ValueError(f"expected a file name of 1 to {_LONGEST_PATH} characters, none of them NUL")
        base = Path.cwd() if trusted else self.folder
        try:
            real = (base / text).resolve()
            if not trusted and not any(real.is_relative_to(folder) for folder in self.allowed):
                raise ValueError(
                    f"{shortened(text)!r} lies outside the scenario's folder; to allow it: --allow-path "
                    f"{real.parent}, or the same in {ENVIRONMENT}"
                )
            if not real.is_file() and not (or_folder and real.is_dir()):
                what = "is not a regular file" if real.exists() else "does not exist"
                raise ValueError(f"{shortened(text)!r} {what} (looked in {base})")
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{shortened(text)!r} cannot be looked up: {error}") from None
        return real


def with_absolute_paths(root: Node, folders: Folders) -> list[Problem]:
    """Replace the files named in the document by their absolute paths, in place; return what is wrong with them.

    Looking up stops at the first file beyond `MAX_FILES`, and after `MAX_PROBLEMS` problems.
    """
    problems: list[Problem] = []
    resolved: set[int] = set()
    for path, node, or_folder in _file_nodes(root, ()):
        if id(node) in resolved or node.faulty:  # an aliased node is met once for every alias
            continue
        if len(resolved) == MAX_FILES:
            return [*problems, placed(f"more than {MAX_FILES:,} files; reading stopped here", dotted(path), node.mark)]
        resolved.add(id(node))
        try:
            node.value = str(folders.find(str(node.value), trusted=is_override(node.mark), or_folder=or_folder))
        except ValueError as error:
            problems.append(placed(str(error), dotted(path), node.mark))
            node.faulty = True
            if len(problems) > MAX_PROBLEMS:  # one more than are shown, so that it is said that there are more
                break
    return problems


def _file_nodes(node: Node, path: KeyPath) -> Iterator[tuple[KeyPath, Node, bool]]:
    """Yield the text nodes that name a file, and whether a folder will do."""
    if isinstance(node.value, dict):
        file_keys = _FILE_KEYS if "kind" in node.value else _MODEL_KEYS if path[-1:] == ("model",) else ()
        or_folder = "kind" in node.value and node.value["kind"].node.value in _FOLDER_KINDS
        for key, entry in node.value.items():
            if key in file_keys and isinstance(entry.node.value, str):
                yield (*path, key), entry.node, or_folder
            yield from _file_nodes(entry.node, (*path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(children_of(node)):
            yield from _file_nodes(child, (*path, index))
