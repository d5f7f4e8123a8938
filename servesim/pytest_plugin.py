"""`servesim check` inside pytest: the fixture `servesim_check`, and `--servesim-update`. See docs/ci.md.

pytest imports this in every run, so servesim itself is imported only when a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from servesim.check.report import Report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    group = parser.getgroup("servesim", "checks of simulated serving systems")
    group.addoption(
        "--servesim-update",
        action="store_true",
        help="rewrite the baselines of servesim_check instead of comparing with them",
    )


@pytest.fixture
def servesim_check(request: pytest.FixtureRequest) -> Callable[..., Report | None]:
    """Return a function that checks one scenario and fails the test where `servesim check` would not exit with 0.

    `servesim_check("chat.yaml", baseline="servesim-baseline.yaml")`; paths are relative to the test's file. The
    options of servesim.check.run.check may be given too (`against`, `seed`, `replications`, `budget_s`, `allow_paths`).
    `inconclusive="skip"` skips the test where nothing can be said, instead of failing it. Returns the report, or None
    where the baseline was rewritten.
    """
    folder = request.path.parent

    def checked(
        scenario: str | Path, *, baseline: str | Path | None = None, inconclusive: str = "fail", **options: Any
    ) -> Report | None:
        from servesim.check.run import check
        from servesim.errors import InputError

        if inconclusive not in ("fail", "skip"):
            raise ValueError(f"inconclusive: 'fail' or 'skip', not {inconclusive!r}")
        file = None if baseline is None else folder / baseline
        if file is not None and request.config.getoption("--servesim-update"):
            _update(folder / scenario, file, options)
            return None
        try:
            report = check([folder / scenario], file, **options)
        except InputError as error:
            pytest.fail(str(error), pytrace=False)
        _judge(report, inconclusive)
        return report

    return checked


def _update(scenario: Path, baseline: Path, options: dict[str, Any]) -> None:
    from servesim.check.record import update

    kept = {name: value for name, value in options.items() if name in ("replications", "allow_paths")}
    update([scenario], baseline, **kept)


def _judge(report: Report, inconclusive: str) -> None:
    from servesim.check.report import FINE, UNSURE
    from servesim.report.check import sentences

    if report.exit_code == FINE:
        return
    said = "\n".join(f"{one.key}: {line}" for one in report.scenarios for line in sentences(one, report))
    if report.exit_code == UNSURE and inconclusive == "skip":
        pytest.skip(said)
    pytest.fail(f"servesim check: {report.verdict}\n{said}", pytrace=False)
