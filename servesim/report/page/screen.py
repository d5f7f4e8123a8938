"""The first screen of every page: a question, its answer in a line, what it rests on, and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "open", "plain"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the first screen, with its interval or what else belongs to it."""

    label: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Screen:
    """What the first screen says; `tone` is its colour, `columns` are headings with their sentences."""

    tone: Tone
    question: str
    headline: str
    points: list[str]
    tiles: list[Tile]
    columns: tuple[tuple[str, list[str]], ...]
