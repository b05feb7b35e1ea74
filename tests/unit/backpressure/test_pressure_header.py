"""X-Pressure: what is written is what is read, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.pressure_header import (
    PressureReport,
    format_pressure,
    parse_pressure,
)
from headgate.errors import InvalidInput


def test_the_field_reads_as_the_page_says():
    assert format_pressure(0.83, 0.62, 1000, 7) == "v=1;p=.83;adm=.62;ttl=1000;seq=7"
    assert format_pressure(0, 1, 0, 0) == "v=1;p=0;adm=1;ttl=0;seq=0"
    assert format_pressure(1.5, 0.004, 1000, 7) == "v=1;p=1.5;adm=0;ttl=1000;seq=7"


def test_what_is_out_of_bounds_is_written_as_the_bound():
    assert format_pressure(float("inf"), 7, 10**9, -1) == "v=1;p=100;adm=1;ttl=600000;seq=0"
    assert format_pressure(-1, -1, -1, 10**30) == f"v=1;p=0;adm=0;ttl=0;seq={2**63 - 1}"


@pytest.mark.parametrize("values", [(float("nan"), 1.0), (0.5, float("nan"))])
def test_no_reading_is_no_report(values):
    with pytest.raises(InvalidInput, match="must be numbers"):
        format_pressure(*values, 1000, 1)


@given(st.floats(0, 100), st.floats(0, 1), st.integers(0, 600_000), st.integers(0, 2**63 - 1))
def test_what_was_written_is_read_to_two_places(p, admitted, ttl_ms, seq):
    report = parse_pressure(format_pressure(p, admitted, ttl_ms, seq))
    assert report is not None
    assert report.p == pytest.approx(p, abs=0.00501)
    assert report.admitted == pytest.approx(admitted, abs=0.00501)
    assert (report.ttl_ms, report.seq) == (ttl_ms, seq)


def test_any_order_and_parts_from_the_future():
    text = 'seq=3; ttl=500;new="x";adm=1.0;p=0.25;v=1'
    assert parse_pressure(text) == PressureReport(0.25, 1.0, 500, 3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "v=1",
        "v=2;p=.5;adm=1;ttl=1;seq=1",
        "p=.5;adm=1;ttl=1;seq=1",
        "v=1;p=nan;adm=1;ttl=1;seq=1",
        "v=1;p=inf;adm=1;ttl=1;seq=1",
        "v=1;p=1e3;adm=1;ttl=1;seq=1",
        "v=1;p=-1;adm=1;ttl=1;seq=1",
        "v=1;p=.;adm=1;ttl=1;seq=1",
        "v=1;p=1.2.3;adm=1;ttl=1;seq=1",
        "v=1;p=100.01;adm=1;ttl=1;seq=1",
        "v=1;p=.5;adm=1.01;ttl=1;seq=1",
        "v=1;p=.5;adm=1;ttl=600001;seq=1",
        "v=1;p=.5;adm=1;ttl=1.5;seq=1",
        "v=1;p=.5;adm=1;ttl=1;seq=9223372036854775808",
        "v=1;p=.5;adm=1;ttl=1;seq=" + "9" * 200,
        "v=1;p=.5;p=.1;adm=1;ttl=1;seq=1",
        "v=1;p=.5;adm=1;ttl=1;seq=1;",
        "v=1;p=\u0665;adm=1;ttl=1;seq=1",
        "v=1;p=1_0;adm=1;ttl=1;seq=1",
        "v=1;p=.5;adm=1;ttl=1;seq=1;pad=" + "x" * 300,
    ],
)
def test_nothing_else_is_believed(text):
    assert parse_pressure(text) is None


@given(st.text(max_size=80))
def test_text_of_any_kind_does_no_harm(text):
    assert parse_pressure(text) is None


@given(
    st.text(alphabet="v=1;padmtlseq.0\u00b2 -e", max_size=60).map(lambda tail: "v=1;p=.1" + tail)
)
def test_nearly_right_text_does_no_harm(text):
    report = parse_pressure(text)
    assert report is None or 0 <= report.p <= 100
