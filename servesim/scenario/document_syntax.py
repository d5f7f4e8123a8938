"""What a YAML syntax error means, in the words of someone who writes scenarios."""

from __future__ import annotations

import yaml

from servesim.errors import Problem

_MEANINGS = (
    ("mapping values are not allowed", "a ': ' does not belong here; check the indentation, or quote the text"),
    ("did not find expected key", "expected a key here; check the indentation, or quote the text"),
    ("could not find expected ':'", "expected `key: value`; the ':' is missing"),
    ("did not find expected '-' indicator", "expected the list's next `- item` here; check the indentation"),
    ("block sequence entries are not allowed", "a list item does not belong here; check the indentation"),
    ("unexpected end of stream", "a quote that opens is never closed"),
    ("did not find expected ',' or ']'", "a list in [ ] lacks a comma or its closing ]"),
    ("did not find expected ',' or '}'", "a mapping in { } lacks a comma or its closing }"),
    ("did not find expected node content", "a value is missing here, or text starts with a reserved character"),
    ("unknown escape character", "unknown escape after a backslash; use single quotes for text with backslashes"),
    ("did not find expected <document start>", "something follows the end of the document"),
    ("found undefined tag handle", "tags (!) are not allowed; quote text that starts with '!'"),
    ("exceeded", "nested too deep"),
)


def syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    """Return the parser's complaint as a problem with its line and column."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return Problem(f"not valid YAML: {' '.join(str(error).split())}", file=file)
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(f"not valid YAML: {error.problem}", file=file)
    message = _message(error, _character(text, mark.line, mark.column))
    start = error.context_mark
    if start is not None and start.line != mark.line:
        message += f" (in what starts on line {start.line + 1})"
    return Problem(message, file=file, line=mark.line + 1, column=mark.column + 1)


def _character(text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    return lines[line][column : column + 1] if line < len(lines) else ""


def _message(error: yaml.MarkedYAMLError, character: str) -> str:
    problem = error.problem or "not valid YAML"
    if "cannot start any token" in problem:
        if character == "\t":
            return "a tab cannot indent; use spaces"
        return f"text cannot start with {character!r}; put it in quotes"
    for found, meaning in _MEANINGS:
        if found in problem:
            return meaning
    return f"not valid YAML: {problem}" + (f", {error.context}" if error.context else "")
