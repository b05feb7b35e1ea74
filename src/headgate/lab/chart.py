"""A report's series as charts of characters (plotext)."""

from __future__ import annotations

from math import isfinite, log10
from typing import TYPE_CHECKING, Any, Final

from headgate.lab.panels import is_bare, is_bound, is_ours, panels_of

if TYPE_CHECKING:
    from headgate.lab.panels import Panel
    from headgate.lab.report import Report, Series

__all__ = ["chart_text"]

_OURS: Final = ("●", "blue+")
_BARE: Final = ("x", "red+")
_BOUND: Final = ("·", "gray")
_OTHERS: Final = (
    ("+", "orange+"),
    ("○", "green+"),
    ("◆", "magenta+"),
    ("▲", "cyan+"),
    ("□", "red"),
)
_HEIGHT: Final = 15


def chart_text(report: Report, width: int = 100, *, colours: bool = False) -> str:
    """All panels, one under the other.

    Args:
        report: whose series are drawn.
        width: of the terminal, in characters.
        colours: whether it shows colours.
    """
    return "\n".join(
        _panel_text(panel, report, width, colours=colours) for panel in panels_of(report)
    )


def _panel_text(panel: Panel, report: Report, width: int, *, colours: bool) -> str:
    import plotext  # type: ignore[import-untyped] # it comes without types

    figure: Any = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(max(40, width), _HEIGHT)
    styles = _styles(panel)
    for line, (symbol, colour) in zip(panel.lines, styles, strict=True):
        x, y = _points(line, log_x=report.log_x, log_y=panel.log_y)
        marker = plotext.marker(symbol, pixel=colour)
        figure.draw(figure.signal(x, y, marker=marker).lines())
    _label_axes(figure, panel, report)
    legend = "   ".join(
        f"{symbol} {line.label}" for line, (symbol, _) in zip(panel.lines, styles, strict=True)
    )
    drawn = figure.build().string(colorless=not colours)
    return f"{panel.heading}: {legend}\n{drawn}"


def _styles(panel: Panel) -> list[tuple[str, str]]:
    others = iter(_OTHERS * len(panel.lines))
    found = []
    for line in panel.lines:
        if is_ours(line.label) and _OURS not in found:
            found.append(_OURS)
        elif is_bare(line.label) and _BARE not in found:
            found.append(_BARE)
        elif is_bound(line.label) and _BOUND not in found:
            found.append(_BOUND)
        else:
            found.append(next(others))
    return found


def _points(line: Series, *, log_x: bool, log_y: bool) -> tuple[list[float], list[float]]:
    """The points that can be drawn; logarithms are taken here, and undone in the ticks."""
    points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if isfinite(x) and isfinite(y)]
    xs = [log10(x) if log_x else x for x, _ in points]
    return xs, [log10(y) if log_y else y for _, y in points]


def _label_axes(figure: Any, panel: Panel, report: Report) -> None:
    figure.label(report.x_label, "x")
    if report.log_x:
        values = sorted({x for line in panel.lines for x in line.x})
        _ticks(figure.ruler("x"), values, spread=0.08)
    if panel.log_y:
        values = sorted({y for line in panel.lines for y in line.y if isfinite(y)})
        _ticks(figure.ruler("y"), _nice_between(values[0], values[-1]), spread=0.0)


def _ticks(ruler: Any, values: list[float], spread: float) -> None:
    """Ticks at these values of a logarithmic axis, those that would touch left out."""
    kept: list[float] = []
    for value in values:
        if not kept or log10(value) - log10(kept[-1]) > spread:
            kept.append(value)
    ruler.ticks([log10(value) for value in kept], [f"{value:g}" for value in kept])


def _nice_between(low: float, high: float) -> list[float]:
    decades = range(int(log10(low)) - 2, int(log10(high)) + 2)
    # 10**n of a negative n is no float that prints well; its text is.
    values = [float(f"1e{decade}") for decade in decades]
    return [value for value in values if low <= value <= high] or [low, high]
