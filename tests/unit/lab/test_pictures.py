"""Panels, charts of characters, pictures."""

from __future__ import annotations

from math import inf, nan

import pytest

from headgate.lab.chart import chart_text
from headgate.lab.panels import is_bare, is_bound, is_ours, panels_of
from headgate.lab.plot import save_plot
from headgate.lab.report import Report, Series


def report(*series, **settings):
    return Report(4, "A title", "virtual", {}, [], [], series=list(series), **settings)


GOODPUT = [
    Series("goodput", "Headgate, ours", [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], "of C"),
    Series("goodput", "unprotected", [0.0, 1.0, 2.0], [1.0, 0.0, nan], "of C"),
    Series("goodput", "bound", [0.0, 2.0], [1.0, 1.0], "of C"),
    Series("latency", "bounded queue", [1.0, 2.0], [0.01, 10.0], "s"),
]


def test_panels_keep_their_order_and_draw_ours_last():
    goodput, latency = panels_of(report(*GOODPUT))
    assert [line.label for line in goodput.lines] == ["unprotected", "bound", "Headgate, ours"]
    assert (goodput.heading, latency.heading) == ("goodput (of C)", "latency (s)")
    assert (goodput.log_y, latency.log_y) == (False, True)


def test_lines_without_a_number_are_left_out():
    assert panels_of(report(Series("p", "a", [0.0], [nan]), Series("p", "b", [0.0], [inf]))) == []


def test_labels_say_what_a_line_is():
    assert is_ours("Headgate")
    assert is_bare("Unprotected, 3 retries")
    assert is_bound("bound, by theory")
    assert not is_bound("bounded queue of 300")


@pytest.mark.parametrize("settings", [{}, {"x_label": "load", "log_x": True}])
def test_a_chart_of_characters(settings):
    lines = GOODPUT[1:] if settings else GOODPUT
    shifted = [Series(s.panel, s.label, [x + 1 for x in s.x], s.y, s.unit) for s in lines]
    text = chart_text(report(*shifted, **settings), 60)
    assert "goodput (of C):" in text
    assert "latency (s):" in text
    assert "\x1b" not in text
    assert settings.get("x_label", "seconds") in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_chart_in_colours():
    assert "\x1b[" in chart_text(report(*GOODPUT), 60, colours=True)


def test_a_chart_of_one_point_and_of_many_lines():
    many = [Series("p", f"line {n}", [1.0], [float(n)], "") for n in range(12)]
    assert "line 11" in chart_text(report(*many), 60)
    assert chart_text(report(), 60) == ""


@pytest.mark.slow
def test_a_picture_is_small_and_the_same_every_time(tmp_path):
    one = report(*GOODPUT)
    assert save_plot(one, tmp_path / "a.png")
    assert save_plot(one, tmp_path / "b.png")
    first = (tmp_path / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert first == (tmp_path / "b.png").read_bytes()
    assert len(first) < 40_000


def test_no_picture_without_lines(tmp_path):
    assert not save_plot(report(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_picture_with_a_logarithmic_axis(tmp_path):
    positive = Series("p", "Headgate", [0.5, 1.0, 10.0], [1.0, 50.0, 900.0], "ms")
    assert save_plot(report(positive, log_x=True), tmp_path / "a.png")
