"""Opening a log: compression and text encoding by what the file begins with, not by its name."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from servesim.errors import InputError, Problem, unreadable

GZIP, ZSTANDARD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
# UTF-32 before UTF-16: its little-endian mark begins with the other's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PROBE_BYTES = 4096


def first_bytes(path: str) -> bytes:
    """Return the first few bytes of the file as it lies on the disk."""
    with open(path, "rb") as file:
        return file.read(4)


def open_binary(path: str) -> IO[bytes]:
    """Open the file, through gzip where it begins like one."""
    start = first_bytes(path)
    if start == ZSTANDARD:
        raise InputError(Problem("the log is compressed with Zstandard, which is not read: unpack it first", file=path))
    if start[:2] == GZIP:
        return cast(IO[bytes], gzip.open(path, "rb"))
    return open(path, "rb")


def open_text(path: str) -> io.TextIOWrapper:
    """Open the log as text: UTF-8, or UTF-16 or UTF-32 with a byte order mark; line ends are left as they are."""
    with open_binary(path) as file:
        start = file.read(_PROBE_BYTES)
    encoding = next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in start:
        message = "the log has NUL bytes: perhaps UTF-16 without a byte order mark; convert it to UTF-8"
        raise InputError(Problem(message, file=path))
    return io.TextIOWrapper(open_binary(path), encoding=encoding, newline="")


@contextmanager
def named_faults(path: str) -> Iterator[None]:
    """Turn what reading a file may raise into an InputError that names it."""
    try:
        yield
    except UnicodeError as error:
        raise InputError(Problem(f"the log is not readable text: {error}", file=path)) from error
    except csv.Error as error:
        raise InputError(Problem(f"the log is not a sound CSV table: {error}", file=path)) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(Problem(f"the compressed log is cut short or damaged: {error}", file=path)) from error
    except OSError as error:
        raise unreadable(error, path) from error
