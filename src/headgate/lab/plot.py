"""A report's series as a picture (matplotlib)."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from headgate.lab.panels import is_bare, is_bound, is_ours, panels_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headgate.lab.panels import Panel
    from headgate.lab.report import Report

__all__ = ["save_plot"]

_OURS: Final = {"color": "#1f5fbf", "linewidth": 2.2, "zorder": 5}
_BARE: Final = {"color": "#c0392b", "linewidth": 1.4, "zorder": 3}
_BOUND: Final = {"color": "#555555", "linewidth": 1.1, "linestyle": (0, (1, 2)), "zorder": 2}
_OTHERS: Final = ("#e08a1e", "#2a9d6f", "#8e5bb5", "#4fb3bf", "#a0785a", "#d36ba6")
# Several lines of ours in one panel (by tier, by node): shades of one hue, strong to light.
_OUR_SHADES: Final = ("#1f5fbf", "#4f8fdf", "#86b6f0", "#12305f", "#b4d2f7")
_FEW_POINTS: Final = 25
_COLOURS: Final = 128
_LABEL_WIDTH: Final = 30


def save_plot(report: Report, path: Path) -> bool:
    """Draw all panels, one over the other on one x axis, as a PNG; False when there is nothing to draw."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = panels_of(report)
    if not panels:
        return False
    figure = Figure(figsize=(8.6, 1.1 + 2.15 * len(panels)), dpi=100, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    styles = _styles(panels)
    explained: set[str] = set()
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, report, styles)
        labels = {line.label for line in panel.lines}
        if not labels <= explained:
            _explain(axis)
            explained |= labels
    axes[-1].set_xlabel(report.x_label, fontsize=9)
    title = f"{report.number}. {report.title} ({report.mode})"
    figure.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    canvas.draw()
    _write(canvas.buffer_rgba(), path)
    return True


def _write(pixels: Any, path: Path) -> None:
    """As a PNG of few colours, a quarter of the size; no date inside, so equal figures make equal files."""
    from PIL import Image

    height, width, _ = pixels.shape
    picture = Image.frombuffer("RGBA", (width, height), pixels, "raw", "RGBA", 0, 1)
    # By coverage of the colours, not by how many pixels have them: a thin line keeps its own.
    few = picture.convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)
    few.save(path, optimize=True)


def _draw(axis: Any, panel: Panel, report: Report, styles: dict[str, dict[str, Any]]) -> None:
    for line in panel.lines:
        few = len(line.x) <= _FEW_POINTS
        marker = {"marker": "o", "markersize": 3.5} if few and not is_bound(line.label) else {}
        axis.plot(line.x, line.y, label=line.label, **styles[line.label], **marker)
    axis.set_title(panel.heading, fontsize=9, loc="left", pad=4)
    axis.grid(visible=True, color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    if panel.log_y:
        axis.set_yscale("log")
    elif all(value >= 0 for line in panel.lines for value in line.y):
        axis.set_ylim(bottom=-0.02 * axis.get_ylim()[1])
    if report.log_x:
        _log_x(axis, sorted({x for line in panel.lines for x in line.x}))


def _explain(axis: Any) -> None:
    """The legend, ours first; a panel with the lines of the one above needs none."""
    handles, labels = axis.get_legend_handles_labels()
    place = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
    texts = [fill(label, _LABEL_WIDTH) for label in labels[::-1]]
    axis.legend(handles[::-1], texts, fontsize=8, frameon=False, **place)


def _log_x(axis: Any, values: list[float]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(values, [f"{value:g}" for value in values])


def _styles(panels: list[Panel]) -> dict[str, dict[str, Any]]:
    """A style for each label, the same in all panels."""
    others, shades = iter(_OTHERS * 4), iter(_OUR_SHADES * 4)
    labels = dict.fromkeys(line.label for panel in panels for line in panel.lines)
    return {label: _style(label, others, shades) for label in labels}


def _style(label: str, others: Iterator[str], shades: Iterator[str]) -> dict[str, Any]:
    if is_ours(label):
        return {**_OURS, "color": next(shades)}
    if is_bare(label):
        return dict(_BARE)
    if is_bound(label):
        return dict(_BOUND)
    return {"color": next(others), "linewidth": 1.4, "zorder": 4}
