"""Numbers as people read them."""

from __future__ import annotations

_NEARLY_ALL = 0.995


def seconds(value: float | None) -> str:
    """Return a time with its unit: ms below a second, else s; "-" for None."""
    if value is None:
        return "-"
    if value >= 1:
        return f"{value:,.2f} s"
    return f"{1000 * value:.3g} ms" if value < 0.1 else f"{1000 * value:.0f} ms"


def number(value: float | None) -> str:
    """Return three significant digits, or whole thousands."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage with one decimal."""
    return "-" if value is None else f"{100 * value:.1f} %"


def two_digits(value: float) -> str:
    """Return a fraction as a percentage with two significant digits; from 100 % on in whole percent."""
    return f"{100 * value:,.0f} %" if abs(value) >= 1 else f"{100 * value:.2g} %"


def whole_percent(value: float) -> str:
    """Return a fraction as a whole percentage."""
    return f"{100 * value:.0f} %"


def change(value: float | None) -> str:
    """Return a relative change with its sign, or as a factor from 2 on; "=" where nothing changed at all."""
    if value is None:
        return "-"
    if value >= 1:
        return f"x {number(1 + value)}"
    return "=" if value == 0 else f"{100 * value:+.1f} %"


def whole_change(value: float | None) -> str:
    """Return a relative change as `change` does, in whole percent where that does not say -100 %."""
    if value is None or value == 0 or value >= 1 or value < -_NEARLY_ALL:
        return change(value)
    rounded = round(100 * value)
    return f"{rounded:+d} %" if rounded else "0 %"


def listed(parts: list[str]) -> str:
    """Return "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
