"""A report's series as a picture (matplotlib)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from headgate.lab.panels import is_bare, is_bound, is_ours, panels_of

if TYPE_CHECKING:
    from pathlib import Path

    from headgate.lab.panels import Panel
    from headgate.lab.report import Report, Series

__all__ = ["save_plot"]

_OURS: Final = {"color": "#1f5fbf", "linewidth": 2.2, "zorder": 5}
_BARE: Final = {"color": "#c0392b", "linewidth": 1.4, "zorder": 3}
_BOUND: Final = {"color": "#555555", "linewidth": 1.1, "linestyle": (0, (1, 2)), "zorder": 2}
_OTHERS: Final = ("#e08a1e", "#2a9d6f", "#8e5bb5", "#4fb3bf", "#a0785a", "#d36ba6")
# Several lines of ours in one panel (by tier, by node): shades of one hue, strong to light.
_OUR_SHADES: Final = ("#1f5fbf", "#4f8fdf", "#86b6f0", "#12305f", "#b4d2f7")
_FEW_POINTS: Final = 25


def save_plot(report: Report, path: Path) -> bool:
    """Draw all panels, one over the other on one x axis, as a PNG; False when there is nothing to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = panels_of(report)
    if not panels:
        return False
    figure = Figure(figsize=(8.6, 1.1 + 2.15 * len(panels)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, report)
    axes[-1].set_xlabel(report.x_label)
    figure.suptitle(
        f"{report.number}. {report.title} ({report.mode})",
        fontsize=11,
        fontweight="bold",
        x=0.01,
        ha="left",
    )
    # No date and no version inside: the same figures give the same file.
    figure.savefig(path, metadata={"Software": None})
    return True


def _draw(axis: Any, panel: Panel, report: Report) -> None:
    for line, style in zip(panel.lines, _styles(panel), strict=True):
        few = len(line.x) <= _FEW_POINTS
        marker = {"marker": "o", "markersize": 3.5} if few and not is_bound(line.label) else {}
        axis.plot(line.x, line.y, label=line.label, **style, **marker)
    axis.set_title(panel.heading, fontsize=9, loc="left", pad=4)
    axis.grid(visible=True, color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    if panel.log_y:
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    if report.log_x:
        _log_x(axis, sorted({x for line in panel.lines for x in line.x}))
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(
        handles[::-1],
        labels[::-1],
        fontsize=8,
        frameon=False,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )


def _log_x(axis: Any, values: list[float]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(values, [f"{value:g}" for value in values])


def _styles(panel: Panel) -> list[dict[str, Any]]:
    others, shades = iter(_OTHERS * 4), iter(_OUR_SHADES * 4)
    return [_style(line, others, shades) for line in panel.lines]


def _style(line: Series, others: Any, shades: Any) -> dict[str, Any]:
    if is_ours(line.label):
        return {**_OURS, "color": next(shades)}
    if is_bare(line.label):
        return dict(_BARE)
    if is_bound(line.label):
        return dict(_BOUND)
    return {"color": next(others), "linewidth": 1.4, "zorder": 4}
