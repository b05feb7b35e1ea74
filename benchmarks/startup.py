"""From `make start-rate-limiter` to the first answered check, on a machine that has all installed."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.harness import ROOT, Report, arguments, progress
from benchmarks.processes import CHECK_PATH, HOST, Unavailable, free_port

MOST_SECONDS = 1.5
GIVE_UP_SECONDS = 30.0
BODY = '{"key": "user:12345", "tokens": 1, "metadata": {"endpoint": "/api/data"}}'


def make_environment() -> dict[str, str]:
    """As a user's shell has it: make must not think that it runs under our make."""
    drop = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHONPATH"}
    return {name: value for name, value in os.environ.items() if name not in drop}


def first_answer(port: int, process: subprocess.Popen[bytes], deadline: float) -> int:
    """Ask until somebody answers; the status."""
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.request("POST", CHECK_PATH, BODY, {"Content-Type": "application/json"})
                return connection.getresponse().status
        finally:
            connection.close()
        if process.poll() is not None:
            break
        time.sleep(0.002)
    raise Unavailable("it ended or did not answer")


def start_once() -> tuple[float, float]:
    """Wall seconds to the first answer, and CPU seconds of all that ran for it until it was stopped."""
    port, resp_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as name:
        log = Path(name) / "log"
        options = f"ARGS=--port {port} --resp-port {resp_port} --data-dir {name}/data"
        before = os.times()
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["make", "start-rate-limiter", options],
                cwd=ROOT,
                env=make_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            status = first_answer(port, process, began + GIVE_UP_SECONDS)
            took = time.monotonic() - began
        except Unavailable:
            said = log.read_text(errors="replace")[-800:]
            raise Unavailable(f"make start-rate-limiter did not come up:\n{said}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
        if status != 200:
            raise Unavailable(f"the first check was answered with {status}")
        after = os.times()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return took, cpu


def run(*, quick: bool) -> Report:
    report = Report("startup", "6. From make start-rate-limiter to the first answer", quick=quick)
    try:
        start_once()  # builds and caches what is not there yet
        walls, cpus = [], []
        for number in range(1 if quick else 5):
            progress(f"start {number + 1}")
            wall, cpu = start_once()
            walls.append(wall)
            cpus.append(cpu)
    except Unavailable as missing:
        report.unavailable("first answered check", f"<= {MOST_SECONDS} s", str(missing))
        return report
    table = report.table("Seconds", "", "median", "min", "max")
    table.add("wall, to the first answer", median(walls), min(walls), max(walls))
    table.add("CPU, start and stop", median(cpus), min(cpus), max(cpus))
    report.at_most("first answered check (median wall)", median(walls), MOST_SECONDS, "s")
    return report


def main() -> None:
    run(quick=arguments(__doc__).quick).finish()


if __name__ == "__main__":
    main()
