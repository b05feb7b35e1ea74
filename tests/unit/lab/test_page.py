"""The blocks of docs/laboratory.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import ConfigurationError
from headgate.lab.page import block_text, claim_cells, measured_here, write_block, write_summary
from headgate.lab.report import Claim, Report

PAGE = """before
<!-- lab: exp01 virtual -->
old
<!-- end -->
middle
<!-- lab: exp01 live -->
<!-- end -->
"""


def report(mode="virtual"):
    return Report(
        1,
        "Title",
        mode,
        {"server": "8 seats", "load": "open"},
        ["load", "goodput"],
        [["2x|3x", 0.98765], ["10x", 12345]],
        claims=[Claim("goodput", 0.98, ">=", 0.97, "of C"), Claim("late", 3, "<=", 0)],
        notes=["a note"],
    )


def test_only_the_block_between_the_comments_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    write_block(page, report(), Path("lab/exp01.png"))
    text = page.read_text()
    assert text.startswith("before\n<!-- lab: exp01 virtual -->\n\nserver: 8 seats; load: open.\n")
    assert text.endswith("<!-- end -->\nmiddle\n<!-- lab: exp01 live -->\n<!-- end -->\n")
    assert "old" not in text
    write_block(page, report(), Path("lab/exp01.png"))
    assert page.read_text() == text


def test_a_block_has_the_table_the_verdicts_and_the_picture():
    text = block_text(report("live"), Path("lab/exp01.png"), "Measured here.")
    assert "| load | goodput |\n| --- | ---: |\n| 2x&#124;3x | 0.988 |\n| 10x | 12,345 |\n" in text
    assert "| goodput | >= 0.97 of C | 0.98 of C | ok |" in text
    assert "| late | <= 0 | 3 | MISSED |" in text
    assert "![Title, live](lab/exp01.png)" in text
    assert "*a note*" in text
    assert text.endswith("Measured here.\n\n")
    assert "![" not in block_text(report(), None)


def test_a_page_without_the_block_or_no_page_is_told(tmp_path):
    page = tmp_path / "page.md"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        write_block(page, report(), None)
    page.write_text("nothing here")
    with pytest.raises(ConfigurationError, match="has no block"):
        write_block(page, report(), None)
    assert page.read_text() == "nothing here"


def test_a_summary_has_the_claims_of_all(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- lab: all virtual -->\n<!-- end -->\nthe rest")
    write_summary(page, [report(), report()])
    text = page.read_text()
    assert text.count("| 1 | goodput | >= 0.97 of C | 0.98 of C | ok |") == 2
    assert text.endswith("<!-- end -->\nthe rest")


def test_backslashes_in_a_report_are_text(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    one = report()
    one.notes = [r"a\1 \g<0> note"]
    write_block(page, one, None)
    assert r"a\1 \g<0> note" in page.read_text()


def test_a_live_block_says_when_and_on_what():
    assert measured_here().startswith("Measured 20")
    assert claim_cells(Claim("c", float("nan"), ">=", 1))[2:] == ["-", "MISSED"]
