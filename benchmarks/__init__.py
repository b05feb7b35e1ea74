"""Measured figures: `make bench` runs them all, `python -m benchmarks.<name>` runs one.

Every module here prints a table, writes ``build/bench/<name>.json`` and judges its figures against the
targets. `benchmarks.__main__` runs them one after the other; `benchmarks.report` turns the JSON files
into the tables of ``docs/figures.md``.
"""
