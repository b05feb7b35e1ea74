"""The measured part of docs/figures.md, from build/bench/*.json: `python -m benchmarks.report`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benchmarks.harness import RESULTS, ROOT

if TYPE_CHECKING:
    from collections.abc import Collection

PAGE = ROOT / "docs" / "figures.md"
BEGIN = "<!-- measured: written by `make bench ARGS=--write` -->"
END = "<!-- /measured -->"
# Many nodes have a part of the page for themselves, so that either can be measured anew without the other.
CLUSTER = ("cluster_", "workers")
CLUSTER_BEGIN = '<!-- measured, many nodes: written by `make bench ARGS="cluster --write"` -->'
CLUSTER_END = "<!-- /measured, many nodes -->"


def documents(*, of_cluster: bool = False) -> list[dict[str, Any]]:
    """The results of all benches, in the order of their titles."""
    paths = [path for path in RESULTS.glob("*.json") if path.name.startswith(CLUSTER) == of_cluster]
    found = [json.loads(path.read_text()) for path in sorted(paths)]
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


def measured(found: list[dict[str, Any]]) -> str:
    """Everything between the markers."""
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


def write(names: Collection[str] = ()) -> None:
    """Put it into the page: the part of many nodes, the other one, or both, by what was measured."""
    of_cluster = {name.startswith(CLUSTER) for name in names} or {False, True}
    found = {each: documents(of_cluster=each) for each in sorted(of_cluster)}
    if not any(found.values()):
        raise SystemExit("no results in build/bench; run `make bench`")
    for each, results in found.items():
        begin, end = (CLUSTER_BEGIN, CLUSTER_END) if each else (BEGIN, END)
        if results:
            put(begin, end, measured(results))
    print(f"written: {PAGE.relative_to(ROOT)}")


def put(begin: str, end: str, text: str) -> None:
    """Between its markers; a page without them is left alone."""
    before, found, rest = PAGE.read_text().partition(begin)
    if found:
        PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    write()
