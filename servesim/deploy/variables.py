"""Variables of shells and of docker-compose in a text that starts a server."""

from __future__ import annotations

import re

_VALUE = r"""("[^"\n$`]*"|'[^'\n]*'|[^\s;&|$`"'()]+)"""
_ASSIGNED = re.compile(rf"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)={_VALUE}[ \t]*(?:#.*)?$", re.MULTILINE)
_USED = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?[-=]([^{}]*))?\})")


def filled_in(text: str) -> tuple[str, list[str]]:
    """Return the text with its variables' values, and a line for each that says what it was taken to be.

    Values are what the text itself assigns on a line of its own (`TP=2`, `export TP=2`), else the default beside the
    name (`${TP:-2}`). What has neither is left as it is: the environment here is not the server's.
    """
    assigned = {name: value.strip("\"'") for name, value in _ASSIGNED.findall(text)}
    taken: dict[str, None] = {}

    def value_of(used: re.Match[str]) -> str:
        bare, braced, default = used.groups()
        value: str | None = assigned.get(bare or braced, default)
        if value is None:
            return str(used[0])
        if (bare or braced) not in assigned:
            taken[f"{used[0]} is taken as {value or 'nothing'}"] = None
        return value

    return _USED.sub(value_of, text), list(taken)
