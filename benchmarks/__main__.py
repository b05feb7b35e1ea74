"""Run every bench, each in a process of its own, and sum up: `make bench`, ARGS="--quick" to try it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks import report
from benchmarks.harness import (
    RESULTS,
    ROOT,
    Verdict,
    build_name,
    conditions,
    conditions_line,
    verdicts_text,
)

# name -> seconds after which it is stopped
BENCHES = {
    "decision": 1_800,
    "imports": 180,
    "asgi_overhead": 240,
    "check_http": 300,
    "batch_resp": 300,
    "policies": 600,
    "flood": 400,
    "startup": 180,
    "peer_memory": 180,
    "gates": 300,
    "workers": 400,
    "cluster_accuracy": 400,
    "cluster_speed": 240,
    "cluster_latency": 180,
    "cluster_failure": 120,
    "cluster_changes": 180,
}
# name -> the benches that it stands for
GROUPS = {"cluster": [name for name in BENCHES if name.startswith("cluster_")]}


@dataclass
class Outcome:
    name: str
    seconds: float
    trouble: str
    document: dict[str, Any] | None


def run_one(name: str, *, quick: bool) -> Outcome:
    """One bench; what went wrong is told and kept from the others."""
    path = RESULTS / f"{name}.json"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    trouble = ""
    try:
        code = process.wait(BENCHES[name])
        if code:
            trouble = f"ended with exit code {code}"
    except subprocess.TimeoutExpired:
        trouble = f"took more than {BENCHES[name]} s"
    except KeyboardInterrupt:
        trouble = "interrupted"
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    document = json.loads(path.read_text()) if path.exists() and not trouble else None
    if document is None and not trouble:
        trouble = "wrote no results"
    return Outcome(name, time.monotonic() - began, trouble, document)


def summary(outcomes: list[Outcome]) -> str:
    verdicts: list[Verdict] = []
    for one in outcomes:
        if one.document is None:
            verdicts.append(Verdict(f"{one.name}: FAILED, {one.trouble}", "", "", None))
        else:
            verdicts += [Verdict(**verdict) for verdict in one.document["verdicts"]]
    missed = sum(verdict.met is False for verdict in verdicts)
    unknown = sum(verdict.measured in {"", "not measured"} for verdict in verdicts)
    text = verdicts_text(verdicts)
    return f"{text}\n\n{len(verdicts)} figures, {missed} missed, {unknown} not measured"


def chosen(names: list[str]) -> list[str]:
    wanted = [one for name in names for one in GROUPS.get(name, [name])]
    unknown = [name for name in wanted if name not in BENCHES]
    if unknown:
        sys.exit(f"no bench {', '.join(unknown)}; there are {', '.join([*GROUPS, *BENCHES])}")
    return list(dict.fromkeys(wanted)) or list(BENCHES)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which: {', '.join(BENCHES)}; all when left out")
    parser.add_argument("--quick", action="store_true", help="small numbers: to see that it runs")
    parser.add_argument(
        "--write", action="store_true", help="put the tables into docs/figures.md afterwards"
    )
    options = parser.parse_args()
    names = chosen(options.names)
    found = conditions()
    print(conditions_line(found, quick=options.quick), flush=True)
    if build_name() != "compiled":
        print("NOT COMPILED: the figures below are those of plain Python", flush=True)
    outcomes = []
    for place, name in enumerate(names, 1):
        print(f"\n[{place}/{len(names)}] {name}", flush=True)
        outcomes.append(run_one(name, quick=options.quick))
        last = outcomes[-1]
        print(
            f"\n[{place}/{len(names)}] {name}: {last.trouble or 'done'}, {last.seconds:.0f} s",
            flush=True,
        )
    text = summary(outcomes)
    print(f"\n== All figures\n\n{text}", flush=True)
    (RESULTS / "summary.txt").write_text(text + "\n")
    if options.write:
        report.write(names)
    sys.exit(any(one.trouble for one in outcomes))


if __name__ == "__main__":
    main()
