"""Kinds registered after the schema was built."""

from typing import Literal

import pytest

from servesim import registry
from servesim.errors import InputError
from servesim.policies.routing.base import Router
from servesim.registry import register
from servesim.request import Request
from servesim.scenario.load import parse
from tests.scenario.samples import CHAT


def test_a_kind_registered_after_a_load_is_found_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    text = CHAT.replace("least_outstanding", "{kind: always_first, sticky: true}")
    with pytest.raises(InputError, match="unknown router 'always_first'"):
        parse(text)
    monkeypatch.setitem(registry._FAMILIES, "router", dict(registry._FAMILIES["router"]))

    @register("router")
    class AlwaysFirst(Router):
        """Send everything to replica 0."""

        kind: Literal["always_first"] = "always_first"
        sticky: bool = False

        def choose(self, request: Request) -> int:
            """Return 0."""
            return 0

    assert parse(text).pools["main"].router == AlwaysFirst(sticky=True)
    with pytest.raises(InputError, match="unknown key 'stiky'; did you mean sticky"):
        parse(text.replace("sticky", "stiky"))
    registry._FAMILIES["router"].pop("always_first")
    registry._REGISTERED.append("the test is over")
    with pytest.raises(InputError, match="unknown router 'always_first'"):
        parse(text)
