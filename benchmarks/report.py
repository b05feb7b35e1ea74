"""The measured part of docs/figures.md, from build/bench/*.json: `python -m benchmarks.report`."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.harness import RESULTS, ROOT

PAGE = ROOT / "docs" / "figures.md"
BEGIN = "<!-- measured: written by `make bench ARGS=--write` -->"
END = "<!-- /measured -->"


def documents() -> list[dict[str, Any]]:
    """The results of all benches, in the order of their titles."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    return sorted(found, key=lambda document: str(document["title"]))


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def markdown_table(table: dict[str, Any]) -> str:
    columns = table["columns"]
    lines = [
        f"**{table['title']}**\n",
        row(columns),
        row(["---", *["---:"] * (len(columns) - 1)]),
        *(row(cells) for cells in table["rows"]),
    ]
    if table["note"]:
        note = table["note"]
        lines.append(f"\n```text\n{note}\n```" if "\n" in note else f"\n{note}")
    return "\n".join(lines)


def verdict_rows(document: dict[str, Any]) -> list[str]:
    words = {True: "ok", False: "**misses**", None: "-"}
    return [
        row([one["figure"], one["target"], one["measured"], words[one["met"]], one["note"]])
        for one in document["verdicts"]
    ]


def section(document: dict[str, Any]) -> str:
    found = document["conditions"]
    quick = " (a quick run: not for quoting)" if document["quick"] else ""
    taken = f"{found['date']}, revision {found['revision']}, {found['build']}"
    parts = [
        f"### {document['title']}{quick}",
        f"{taken}, load average {found['load_average']}; `python -m benchmarks.{document['name']}`",
        *(markdown_table(table) for table in document["tables"]),
    ]
    if document["notes"]:
        parts.append("\n".join(f"- {note}" for note in document["notes"]))
    return "\n\n".join(parts)


def measured() -> str:
    """Everything between the markers."""
    found = documents()
    if not found:
        raise SystemExit("no results in build/bench; run `make bench`")
    machine = found[0]["conditions"]
    verdicts = [line for document in found for line in verdict_rows(document)]
    parts = [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['system']}, {machine['python']}.",
        "### Target beside measured",
        "\n".join(
            [row(["figure", "target", "measured", "", "remark"]), row(["---"] * 5), *verdicts]
        ),
        *(section(document) for document in found),
    ]
    return "\n\n".join(parts)


def write() -> None:
    """Put it into the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{measured()}\n\n{END}{after}")
    print(f"written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    write()
