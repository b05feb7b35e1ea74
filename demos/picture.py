"""The pictures of the demonstrations: panels over one axis of time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NODE_COLOURS = ("#1f5fbf", "#e08a1e", "#2a9d6f", "#8e5bb5", "#4fb3bf")
LIMIT_STYLE = {"color": "#333333", "linewidth": 1.4, "linestyle": (0, (4, 2))}


class Picture:
    """Panels, one under the other."""

    def __init__(self, title: str, headings: Sequence[str], seconds: float) -> None:
        self.figure = Figure(
            figsize=(9.5, 1.3 + 2.2 * len(headings)), dpi=110, layout="constrained"
        )
        self.canvas: Any = FigureCanvasAgg(self.figure)
        self.axes: list[Any] = list(
            self.figure.subplots(len(headings), 1, sharex=True, squeeze=False)[:, 0]
        )
        self.figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
        for axis, heading in zip(self.axes, headings, strict=True):
            axis.set_title(heading, fontsize=9.5, loc="left", pad=4)
            axis.grid(visible=True, color="#e4e4e4", linewidth=0.7)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=8)
        self.axes[-1].set_xlabel("seconds", fontsize=9)
        self.axes[-1].set_xlim(0, seconds)

    def mark(self, begin: float, end: float, text: str) -> None:
        """Shade a stretch of time in every panel, named in the first."""
        for axis in self.axes:
            axis.axvspan(begin, end, color="#f3d9d6", linewidth=0, zorder=0)
        self.axes[0].annotate(
            text,
            ((begin + end) / 2, 0.97),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontsize=8.5,
            color="#8c2f24",
        )

    def divide(self, moments: Sequence[float], texts: Sequence[str]) -> None:
        """Phases: where each begins, and what it is."""
        for axis in self.axes:
            for moment in moments[1:]:
                axis.axvline(moment, color="#999999", linewidth=0.9)
        for moment, text in zip(moments, texts, strict=True):
            self.axes[0].annotate(
                text,
                (moment, 0.97),
                xytext=(4, 0),
                textcoords="offset points",
                xycoords=("data", "axes fraction"),
                va="top",
                fontsize=8.5,
                color="#444444",
            )

    def explain(self) -> None:
        """A legend beside each panel."""
        for axis in self.axes:
            handles, labels = axis.get_legend_handles_labels()
            if labels:
                axis.legend(
                    handles,
                    labels,
                    fontsize=8,
                    frameon=False,
                    loc="center left",
                    bbox_to_anchor=(1.0, 0.5),
                )

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.explain()
        self.canvas.print_png(str(path))
