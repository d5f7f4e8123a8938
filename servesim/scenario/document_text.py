"""From the bytes of a file to text that a YAML parser may see."""

from __future__ import annotations

import difflib
import re
import stat
from pathlib import Path

from servesim.errors import InputError, Problem

MAX_BYTES = 5_000_000
_UTF16_OR_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# libyaml compares each tag directive with all before it: 200,000 of them would take minutes.
_TAG_DIRECTIVE = re.compile("(?:^|[\n\r\x85\u2028\u2029])(?=%TAG[ \t])")
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def read_text(path: Path, name: str) -> str:
    """Return the text of the file; InputError, calling it `name`, if it cannot be read or is not UTF-8 text."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            what = "a directory" if path.is_dir() else "not a regular file"
            raise InputError(Problem(f"is {what}; expected a YAML file", file=name))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(Problem(f"no such file{_neighbour(path)}", file=name)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(Problem(f"cannot be read: {reason}", file=name)) from None
    return decoded(data, name)


def _neighbour(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def decoded(data: bytes, name: str) -> str:
    """Return `data` as text without a byte order mark; InputError if it is too large or not UTF-8."""
    if len(data) > MAX_BYTES:
        raise InputError(Problem(f"is larger than {MAX_BYTES:,} bytes; a scenario is a few kilobytes", file=name))
    if data.startswith(_UTF16_OR_32):
        raise InputError(Problem("is UTF-16 or UTF-32; save it as UTF-8", file=name, line=1, column=1))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line_start = before.rfind(b"\n") + 1
        column = len(before[line_start:].decode("utf-8", "replace")) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8 (is the file Latin-1?); save it as UTF-8"
        raise InputError(Problem(message, file=name, line=before.count(b"\n") + 1, column=column)) from None


def checked(text: str, name: str) -> str:
    """Return `text` if YAML allows all its characters and it holds no tag directive; InputError at the first."""
    found = _FORBIDDEN.search(text)
    if found is not None:
        code = ord(found[0])
        what = "a NUL character (is the file UTF-16? save it as UTF-8)" if code == 0 else f"the character U+{code:04X}"
        raise _refusal(f"{what} is not allowed in YAML", name, text[: found.start()])
    directive = _TAG_DIRECTIVE.search(text)
    if directive is not None:
        raise _refusal("a %TAG directive is not allowed; leave it out", name, text[: directive.end()])
    return text


def _refusal(message: str, name: str, before: str) -> InputError:
    """Return the error about what stands after the text `before`."""
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return InputError(Problem(message, file=name, line=line, column=column))
