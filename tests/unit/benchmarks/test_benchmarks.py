"""Every bench runs, with tiny numbers: that it measures the right thing is for its reader to judge."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import socket
import sys
import threading

import pytest

from benchmarks import (
    __main__ as runner,
)
from benchmarks import (
    batch_resp,
    check_http,
    contenders,
    decision,
    flood,
    harness,
    imports,
    load,
    policies,
    processes,
    report,
    startup,
)
from headgate import Limiter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benches read /proc")

# --- the harness -----------------------------------------------------------------------------------


def test_quantiles_are_nearest_ranks():
    assert harness.quantile([1, 2, 3, 4], 0.5) == 2
    assert harness.quantile(list(range(1, 101)), 0.99) == 99
    assert harness.quantile([7], 0.999) == 7
    assert str(harness.quantile([], 0.5)) == "nan"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (1_234_567, "1,234,567"),
        (1234.5, "1,234"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (float("nan"), "-"),
        ("as is", "as is"),
    ],
)
def test_cells_show_the_digits_that_matter(cell, text):
    assert harness.shown(cell) == text


def test_a_series_gives_median_and_minimum():
    series = harness.Series()
    for cpu, wall in ((3.0, 30.0), (1.0, 10.0), (2.0, 20.0)):
        series.add(harness.Sample(cpu, wall))
    assert (series.cpu_median, series.cpu_min, series.wall_median) == (2.0, 1.0, 20.0)
    assert harness.timed(lambda: None, 1).wall_ns >= 0


def finished_report(directory, monkeypatch, **changes):
    monkeypatch.setattr(harness, "RESULTS", directory)
    one = harness.Report(changes.get("name", "sample"), changes.get("title", "A"), quick=True)
    one.table("Numbers", "what", "value", note="a note").add("x", 1.5)
    one.at_most("within", 1.0, 2.0, "ns", "a remark")
    one.at_least("too little", 1.0, 2.0, "/s")
    one.unavailable("not taken", "<= 1", "no nginx")
    one.note("by the way")
    one.finish()
    return one


def test_a_report_says_what_missed_and_keeps_it(tmp_path, monkeypatch, capsys):
    finished_report(tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    assert "MISS" in printed
    assert "not measured" in printed
    kept = json.loads((tmp_path / "sample.json").read_text())
    assert [verdict["met"] for verdict in kept["verdicts"]] == [True, False, None]
    assert kept["tables"][0]["rows"] == [["x", "1.50"]]


def test_the_page_gets_the_tables_between_its_markers(tmp_path, monkeypatch, capsys):
    finished_report(tmp_path, monkeypatch)
    page = tmp_path / "page.md"
    page.write_text(f"# Figures\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    report.write()
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("# Figures\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "| x | 1.50 |" in text
    assert "**misses**" in text


def test_the_summary_counts_misses_and_failures(tmp_path, monkeypatch):
    finished_report(tmp_path, monkeypatch)
    document = json.loads((tmp_path / "sample.json").read_text())
    outcomes = [
        runner.Outcome("sample", 1.0, "", document),
        runner.Outcome("broken", 1.0, "took more than 5 s", None),
    ]
    text = runner.summary(outcomes)
    assert "broken: FAILED, took more than 5 s" in text
    assert text.endswith("4 figures, 1 missed, 2 not measured")


def test_every_bench_that_is_run_exists():
    for name in runner.chosen([]):
        assert importlib.util.find_spec(f"benchmarks.{name}") is not None
    with pytest.raises(SystemExit, match="no bench nonsense"):
        runner.chosen(["nonsense"])


# --- decisions in the program ----------------------------------------------------------------------


@pytest.mark.parametrize("label", contenders.CONTENDERS)
def test_every_contender_checks(label):
    _, module, make = contenders.CONTENDERS[label]
    if module:
        pytest.importorskip(module)
    make(2)(["a", "b", "a"])
    decision.quiet_down()


def test_traffic_has_the_asked_length():
    assert len(list(contenders.traffic(["a"], 5))) == 5
    assert list(contenders.traffic(["a", "b"], 5)) == ["a", "b", "a", "b", "a"]


def test_a_worker_fills_checks_and_watches():
    worker = decision.Worker("headgate, plain Python")
    assert worker.fill(50)["cpu_ns"] > 0
    assert worker.check(100)["wall_ns"] > 0
    assert worker.worst(50)["worst_ns"] > 0


def test_the_verdict_on_decisions_needs_a_compiled_build():
    found = harness.Report("decision", "", quick=True)
    decision.judge(found, {}, "50 keys")
    assert found.verdicts[0].met is None


# --- the flood -------------------------------------------------------------------------------------


def test_a_flood_leaves_limited_keys_limited():
    one = flood.Flood(Limiter(f"{flood.LIMIT}/minute", max_keys=2_000), 3_000, 1)
    one.run()
    assert one.over_admitted() == 0
    assert one.limiter.stats().keys <= 2_000
    assert one.asked >= 30
    assert one.check_ns > 0
    plot = flood.plot(one.history)
    assert "3,000 keys" in plot


def test_the_flood_is_told():
    one = flood.Flood(Limiter("10/minute", max_keys=2_000), 1_500, 1)
    one.run()
    found = harness.Report("flood", "", quick=True)
    flood.tell_memory(found, one)
    flood.tell_outcome(found, one, one)
    flood.judge(found, one, one)
    assert "keys kept" in found.text()


# --- many policies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", policies.KINDS)
def test_the_asked_policies_apply(kind):
    make, few = policies.KINDS[kind]
    expected = 2 if "two apply" in kind else 1
    for count in (few, 60):
        engine = policies.make_engine(make(count))
        for spread in (1, 8):
            asked = policies.requests(count, spread if count > few else 1)
            decisions = [engine.check(attributes) for attributes in asked]
            assert {len(one.levels) or 1 for one in decisions} == {expected}
        policies.checking(engine, asked, 10)()


# --- over the network ------------------------------------------------------------------------------


@pytest.fixture
def answering(monkeypatch):
    """A port that answers every request with 200, and this process left on all its cores."""
    monkeypatch.setattr(load, "pin", lambda core, pid=0: None)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection, contextlib.suppress(ConnectionError):
            while connection.recv(65_536):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class FakeServer:
    def __init__(self, port):
        self.port = port

    def cpu_ns(self):
        return 0


def test_the_closed_loop_counts_answers(answering):
    payloads = [load.http_request("/", "{}")]
    seen = load.Closed(answering, payloads, 2).run(FakeServer(answering), 0.05)
    assert seen.requests > 0
    assert seen.per_second > 0


def test_the_open_loop_asks_at_its_rate(answering):
    payloads = [load.http_request("/", "{}")]
    seen = load.Open(answering, payloads, 4, per_second=400).run(0.05)
    assert len(seen.sorted_ns) + seen.missed == 20
    assert seen.sorted_ns == sorted(seen.sorted_ns)


def test_an_answer_is_whole_or_not():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert load.http_answer_length(answer) == len(answer)
    assert load.http_answer_length(answer[:-1]) == 0
    assert load.http_answer_length(b"HTTP/1.1") == 0


def test_pipelines_hold_the_asked_commands():
    assert batch_resp.command("PING", "x") == b"*2\r\n$4\r\nPING\r\n$1\r\nx\r\n"
    pipelines = batch_resp.pipelines(batch_resp.throttle, 16)
    assert all(pipeline.count(b"CL.THROTTLE") == 16 for pipeline in pipelines)
    reply = b"*5\r\n:0\r\n:11\r\n:10\r\n:-1\r\n:6\r\n"
    assert batch_resp.answers_throttle(bytearray(reply * 3), 3)
    assert not batch_resp.answers_throttle(bytearray(reply * 3)[:-1], 3)
    reply = b"*7\r\n:1\r\n:1\r\n:1\r\n:0\r\n:1\r\n:0\r\n$5\r\nbench\r\n"
    assert batch_resp.answers_check(bytearray(reply * 2), 2)
    assert not batch_resp.answers_check(bytearray(reply), 2)


def test_batches_hold_a_thousand_checks():
    body = batch_resp.batch(0, metadata=True).partition(b"\r\n\r\n")[2]
    assert len(json.loads(body)["checks"]) == batch_resp.BATCH
    assert len(check_http.bodies(3)) == 3


# --- processes -------------------------------------------------------------------------------------


def test_importing_is_timed_in_a_fresh_process():
    sample, _ = imports.spawn("import headgate")
    assert sample.cpu_ns > 0
    assert imports.import_time_ms("import headgate") > 0
    assert list(imports.available({"import nothing": "no_such_package.inside"})) == []


def test_the_cpu_time_of_a_process_grows():
    before = processes.cpu_ns("self")
    sum(range(10_000))
    assert processes.cpu_ns("self") >= before > 0


def test_make_is_started_as_from_a_shell(monkeypatch):
    monkeypatch.setenv("MAKELEVEL", "1")
    assert "MAKELEVEL" not in startup.make_environment()
