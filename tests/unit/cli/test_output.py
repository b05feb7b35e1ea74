"""What commands print: errors in a line, text that cannot drive a terminal, tables."""

from __future__ import annotations

import pytest
import typer

from headgate.cli.output import console, print_error, printable, reporting, table
from headgate.errors import InvalidPolicy, NotFound


def test_a_failure_becomes_a_line_and_exit_code_2(capsys):
    with pytest.raises(typer.Exit) as raised, reporting():
        raise NotFound("there is none; make one")
    assert raised.value.exit_code == 2
    assert capsys.readouterr().err == "error[not_found]: there is none; make one\n"


def test_a_missing_package_is_told_with_how_to_get_it(capsys):
    with pytest.raises(typer.Exit), reporting():
        raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
    assert "error[missing_extra]" in capsys.readouterr().err
    with pytest.raises(ModuleNotFoundError), reporting():
        raise ModuleNotFoundError("a defect of ours", name="headgate.nothing")


def test_a_package_of_the_laboratory_comes_with_its_extra(capsys):
    with pytest.raises(typer.Exit), reporting():
        raise ModuleNotFoundError("No module named 'plotext'", name="plotext")
    assert "headgate[lab]" in capsys.readouterr().err


def test_ctrl_c_exits_with_130():
    with pytest.raises(typer.Exit) as raised, reporting():
        raise KeyboardInterrupt
    assert raised.value.exit_code == 130


def test_each_flaw_of_a_file_has_its_line(capsys):
    flaws = [
        {"line": 3, "field": "a", "message": "one"},
        {"line": 9, "field": "b", "message": "two"},
    ]
    print_error(InvalidPolicy("p.yaml:3: one; p.yaml:9: two", errors=flaws))
    assert capsys.readouterr().err == (
        "error[invalid_policy]: p.yaml:3: one\nerror[invalid_policy]: p.yaml:9: two\n"
    )


def test_text_from_elsewhere_cannot_drive_the_terminal(capsys):
    assert printable("a\x1b[31mb\x07\u202ec") == "a\ufffd[31mb\ufffd\ufffdc"
    print_error(NotFound("\x1b]0;owned\x07"))
    assert "\x1b" not in capsys.readouterr().err


def test_tables_take_cells_as_they_are(capsys):
    console().print(table(["name", "n"], [["[bold]x[/]", "1"], ["long " * 20, "22"]], right=["n"]))
    lines = capsys.readouterr().out.splitlines()
    assert "[bold]x[/]" in lines[3]
    assert len(lines) == 6, "nothing is wrapped where no terminal would cut it"
