"""The command line against a real service, inside this process for speed and as a program for exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest
from typer.testing import CliRunner

from headgate.cli.app import app
from tests.support import servers
from tests.support.commands import HEADGATE, clean_environment, headgate, serving

POLICIES = """\
policies:
  - name: api
    limit: 100
    window: 1h
    burst: 5
    dimensions: [user]
  - name: tenants
    match: {tenant: "*"}
    window: 1m
    levels:
      - {name: all, dimensions: [], limit: 1000}
      - {name: each, dimensions: [tenant], limit: 10}
"""
BROKEN = """\
policies:
  - name: good
    limit: 1
    window: 1s

  - name: bad
    limit: 0
    window: 1s
  - name: worse
    limit: 1
    window: soon
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("cli")) as service:
        yield service


@pytest.fixture
def run(service, tmp_path, monkeypatch):
    """Runs a command here; the files are in the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies.yaml").write_text(POLICIES)
    (tmp_path / "broken.yaml").write_text(BROKEN)
    for name in os.environ.keys() - clean_environment().keys():
        monkeypatch.delenv(name)
    runner = CliRunner(env=service.environment)
    return lambda *arguments, **options: runner.invoke(app, arguments, **options)


@pytest.fixture
def applied(run):
    assert run("policy", "apply", "policies.yaml").exit_code == 0
    return run


def lines_of(text):
    return [line.split() for line in text.splitlines() if line.strip()]


# check


def test_check_says_yes_and_no_with_its_exit_code(applied):
    yes = applied("check", "k", "--tokens", "5", "--meta", "user=exit")
    assert (yes.exit_code, yes.stderr) == (0, "")
    assert yes.stdout.startswith("allowed  api: 0 left of 100 per 1 h, all back in ")
    no = applied("check", "k", "-n", "1", "-m", "user=exit")
    assert (no.exit_code, no.stderr) == (1, "")
    assert no.stdout.startswith("denied  api: 0 left of 100 per 1 h, retry in ")
    never = applied("check", "k", "-n", "6", "-m", "user=exit")
    assert never.exit_code == 1
    assert "can never pass: the cost is above the capacity" in never.stdout


def test_check_as_json_is_the_whole_answer(applied):
    answer = json.loads(applied("check", "k", "-m", "user=json", "--json").stdout)
    assert answer == {
        "allowed": True,
        "policy": "api",
        "limit": 100,
        "remaining": 4,
        "retry_after": 0.0,
        "reset_after": pytest.approx(36, abs=0.1),
        "delay": 0.0,
    }
    never = json.loads(applied("check", "k", "-n", "9", "-m", "user=json", "--json").stdout)
    assert never["retry_after"] is None


def test_check_shows_each_level(applied):
    shown = lines_of(applied("check", "k", "-m", "tenant=levels").stdout)
    assert [line[:2] for line in shown] == [
        ["allowed", "tenants/each:"],
        ["allowed", "tenants/all:"],
        ["allowed", "tenants/each:"],
    ]


def test_peek_spends_nothing(applied):
    for _ in range(7):
        assert applied("check", "k", "--peek", "-m", "user=peek").exit_code == 0


def test_no_policy_applies(applied):
    assert applied("check", "k").stdout.startswith("allowed  no policy applies")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["k", "--meta", "nothing"], "error[invalid_input]: --meta must be NAME=VALUE"),
        (
            ["k", "--url", "ftp://x"],
            "error[invalid_input]: the service's address must be like http://",
        ),
        (
            ["k", "--url", "http://127.0.0.1:1"],
            "error[unreachable]: http://127.0.0.1:1 does not answer",
        ),
        (["k" * 2000], "error[invalid_key]: "),
        (["k", "-n", "1000000000001"], "error[invalid_input]: tokens"),
        (["\udcff"], "error[invalid_input]: the request cannot be sent"),
        (["k", "--token", "caf\xe9"], "error[invalid_input]: an API token is printable ASCII"),
    ],
)
def test_what_cannot_be_asked_exits_with_2(run, arguments, error):
    result = run("check", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(error)
    assert "Traceback" not in result.stderr


def test_a_service_that_is_not_headgate_is_told_apart(run, service):
    result = run("check", "k", "--url", f"http://127.0.0.1:{service.resp_port}")
    assert result.exit_code == 2
    assert result.stderr.startswith("error[unreachable]: ")


# policy


def test_apply_says_what_became_of_each(run):
    for name in ("api", "tenants"):
        run("policy", "delete", name)
    dry = run("policy", "apply", "policies.yaml", "--dry-run")
    assert [line[:2] for line in lines_of(dry.stdout)[2:4]] == [
        ["api", "created"],
        ["tenants", "created"],
    ]
    assert "nothing was changed" in dry.stdout
    assert "there are no policies yet" in run("policy", "list").stdout
    first = json.loads(run("policy", "apply", "policies.yaml", "--json").stdout)
    assert [one["result"] for one in first["policies"]] == ["created", "created"]
    again = json.loads(run("policy", "apply", "policies.yaml", "--json").stdout)
    assert [one["result"] for one in again["policies"]] == ["unchanged", "unchanged"]
    changed = POLICIES.replace("burst: 5", "burst: 6")
    updated = json.loads(run("policy", "apply", "-", "--json", input=changed).stdout)
    assert [one["result"] for one in updated["policies"]] == ["updated", "unchanged"]
    assert updated["policies"][0]["version"] == first["policies"][0]["version"] + 1


def test_a_file_with_an_error_applies_nothing_and_names_the_lines(run):
    result = run("policy", "apply", "broken.yaml")
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("error[invalid_policy]: broken.yaml:7: limit must be >= 1, got 0")
    assert second.startswith("error[invalid_policy]: broken.yaml:11: ")
    assert run("policy", "show", "good").exit_code == 2, "nothing was half-applied"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("policies: [", "error[malformed_request]: standard input:"),
        ("", "error[malformed_request]: standard input:1: it is empty"),
        (
            "- name: x\n  limit: 1\n  window: 1s\n  brust: 3\n",
            "standard input:4: brust is not a known field",
        ),
        ("x" * (1024 * 1024 + 1), "error[too_large]: standard input: "),
        ("\x00", "error[malformed_request]: standard input:"),
    ],
    ids=["yaml", "empty", "typo", "huge", "nul"],
)
def test_bad_files_are_told_with_their_line(run, text, error):
    result = run("policy", "apply", "-", input=text)
    assert result.exit_code == 2
    assert error in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there(run):
    result = run("policy", "apply", "nowhere.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error[malformed_request]: nowhere.yaml: the file cannot be read"
    )


def test_a_dry_run_needs_no_service(run):
    result = run("policy", "apply", "policies.yaml", "--dry-run", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 0
    assert "compared with no policies at all" in result.stderr


def test_list_show_delete(applied):
    listed = lines_of(applied("policy", "list").stdout)
    assert [line[0] for line in listed[2:]] == ["api", "tenants/all", "tenants/each"]
    assert "100/hour" in listed[2]
    documents = json.loads(applied("policy", "list", "--json").stdout)["policies"]
    assert [one["name"] for one in documents] == ["api", "tenants"]
    shown = applied("policy", "show", "tenants").stdout
    unchanged = applied("policy", "apply", "-", "--json", input=shown).stdout
    assert json.loads(unchanged)["policies"][0]["result"] == "unchanged"
    assert json.loads(applied("policy", "show", "api", "--json").stdout)["burst"] == 5
    assert applied("policy", "delete", "api").stdout == "deleted api\n"
    for command in ("delete", "show"):
        gone = applied("policy", command, "api")
        assert gone.exit_code == 2
        assert gone.stderr.startswith("error[not_found]: ")


# token


def test_tokens_are_made_listed_and_revoked(tmp_path):
    runner = CliRunner(env={"HEADGATE_DATA_DIR": str(tmp_path / "made")})
    assert "there are no tokens" in runner.invoke(app, ["token", "list"]).stdout
    made = runner.invoke(
        app, ["token", "create", "ci", "-s", "check", "-s", "read", "--expires", "90d"]
    )
    assert made.exit_code == 0, made.stderr
    assert made.stdout.startswith("hg_")
    assert "shown this once" in made.stderr
    token_id = made.stdout.split("_")[1]
    as_json = runner.invoke(app, ["token", "create", "ops", "--scope", "admin", "--json"])
    assert json.loads(as_json.stdout)["scopes"] == ["admin"]
    listed = runner.invoke(app, ["token", "list"]).stdout
    assert made.stdout.strip() not in listed, "the secret is not kept"
    assert "valid until" in listed
    assert runner.invoke(app, ["token", "revoke", token_id]).stdout == f"revoked {token_id} (ci)\n"
    tokens = json.loads(runner.invoke(app, ["token", "list", "--json"]).stdout)["tokens"]
    assert [bool(one["revoked_at"]) for one in tokens] == [True, False]
    assert "revoked 20" in runner.invoke(app, ["token", "list"]).stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["create", "x", "--scope", "root"], "error[invalid_input]: scopes must be some of"),
        (["create", "x", "--expires", "soon"], "error[invalid_rate]: --expires: "),
        (["create", ""], "error[invalid_input]: name must be"),
        (["revoke", "nothing"], "error[not_found]: "),
        (["list", "--data-dir", "/proc/nothing"], "error[configuration_error]: the data directory"),
        (["list", "--database-url", "ftp://x"], "error[configuration_error]: the store's URL"),
    ],
)
def test_bad_token_commands(tmp_path, arguments, error):
    result = CliRunner(env={"HEADGATE_DATA_DIR": str(tmp_path)}).invoke(app, ["token", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(error)


@pytest.mark.slow
def test_a_running_service_learns_of_tokens(tmp_path):
    with serving(tmp_path) as service:
        assert service.run("check", "k").returncode == 0
        token = service.run("token", "create", "ops", "--scope", "admin").stdout.strip()
        # It looks every two seconds.
        for _ in range(100):
            refused = service.run("check", "k")
            if refused.returncode == 2:
                break
        assert refused.stderr.startswith("error[unauthorized]: ")
        known = {**service.environment, "HEADGATE_TOKEN": token}
        assert headgate("check", "k", environment=known).returncode == 0
        assert headgate("policy", "list", environment=known).returncode == 0


# bench


@pytest.mark.slow
@pytest.mark.parametrize("client", ["own", pytest.param("wrk", marks=pytest.mark.needs_wrk)])
def test_bench_http_measures_and_leaves_nothing_behind(run, client):
    result = run(
        *("bench", "http", "--duration", "1", "--warm-up", "0.1", "--connections", "4"),
        *("--limit", "50", "--keys", "5", "--client", client, "--json"),
    )
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["decisions"] > 500
    assert 0 < figures["admitted"] < figures["decisions"]
    assert 0.9 < figures["admitted_in_all"] / figures["allowed_in_all"] <= 1
    assert 0 < figures["latency"]["p50"] <= figures["latency"]["p99"] <= figures["latency"]["p99.9"]
    assert 0 < figures["server_cpu_seconds_per_decision"] < 0.01
    assert figures["errors"] == 0
    assert "headgate-bench" not in run("policy", "list", "--json").stdout


@pytest.mark.slow
def test_bench_http_at_a_fixed_rate(run):
    result = run("bench", "http", "-d", "1", "--warm-up", "0", "--rate", "500", "-c", "4", "--json")
    figures = json.loads(result.stdout)
    assert 400 < figures["decisions"] <= 510


@pytest.mark.slow
def test_bench_resp(run, service):
    port = str(service.resp_port)
    result = run(
        "bench", "resp", "-p", port, "-d", "0.5", "--warm-up", "0", "--keys", "100", "--json"
    )
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["decisions"] % 64 == 0
    assert figures["decisions"] > 1000
    assert 0.9 < figures["admitted_in_all"] / figures["allowed_in_all"] <= 1
    assert figures["server_cpu_seconds_per_decision"] > 0


@pytest.mark.slow
def test_bench_shows_a_table(run, service):
    shown = run("bench", "resp", "-p", str(service.resp_port), "-d", "0.2", "--warm-up", "0").stdout
    for figure in ("throughput", "latency p99.9", "admitted / allowed", "server CPU"):
        assert figure in shown
    assert "\x1b" not in shown, "no colours where nobody sees them"


def test_bench_decisions(run):
    loops = json.loads(run("bench", "decisions", "-d", "0.01", "--json").stdout)["loops"]
    assert len(loops) == 4
    assert all(0 < loop["nanoseconds"] < 1e6 for loop in loops)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["http", "--url", "http://127.0.0.1:1"],
            "error[unreachable]: http://127.0.0.1:1 does not answer",
        ),
        (
            ["http", "--client", "curl"],
            "error[invalid_input]: --client must be one of auto, wrk, own",
        ),
        (["http", "--client", "wrk", "--rate", "9"], "error[invalid_input]: wrk "),
        (["http", "--window", "soon"], "error[invalid_policy]: window"),
        (["resp", "-p", "1"], "error[unreachable]: 127.0.0.1:1 does not accept connections"),
        (["resp", "--count", "1000000000000", "--period", "1"], "error[unreachable]: "),
    ],
)
def test_bad_benches(run, service, arguments, error):
    if arguments[:2] == ["resp", "--count"]:
        arguments = [*arguments, "-p", str(service.resp_port)]
    result = run("bench", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(error) or f"\n{error}" in result.stderr


# doctor


def test_doctor_finds_the_service(run):
    findings = {one["what"]: one for one in json.loads(run("doctor", "--json").stdout)["findings"]}
    for what in (
        "headgate",
        "python",
        "settings",
        "data directory",
        "records",
        "service",
        "versions",
        "RESP",
        "clock",
    ):
        assert findings[what]["state"] == "ok", findings[what]


def test_doctor_without_a_service_is_fine(run):
    result = run("doctor", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 0
    assert "start it: headgate serve" in result.stdout


def test_doctor_fails_when_something_is_broken(run, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    result = run("doctor", "--data-dir", str(file))
    assert result.exit_code == 1
    assert "is not a directory" in result.stdout
    assert run("doctor", env={"HEADGATE_PORT": "high"}).exit_code == 1


# the program itself


def test_version_and_help(run):
    assert run("--version").stdout.startswith("headgate ")
    assert "serve" in run("--help").stdout
    for command in ("serve", "check", "policy", "token", "bench", "doctor"):
        shown = run(command, "--help")
        assert shown.exit_code == 0
        assert "Example: headgate" in shown.stdout


@pytest.mark.slow
def test_as_a_program(service):
    assert service.run("check", "k", "--peek").returncode == 0
    for arguments in (
        [],
        ["nothing"],
        ["check"],
        ["check", "k", "--tokens", "x"],
        ["check", "k", "--nothing"],
    ):
        assert service.run(*arguments).returncode == 2, arguments
    unreachable = headgate("check", "k", "--url", "http://127.0.0.1:1")
    assert unreachable.returncode == 2
    assert unreachable.stdout == ""
    assert len(unreachable.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--port", "99999"], "--port must be a whole number from 0 to 65535, got '99999'"),
        (["--host", "0.0.0.0"], "needs at least one valid API token"),
        (["--data-dir", "/proc/nothing"], "the data directory /proc/nothing cannot be"),
        (["--tls-key", "/nowhere"], "tls_certificate and tls_key go together"),
    ],
)
def test_serve_refuses_what_cannot_work(tmp_path, options, error):
    port = str(servers.free_port())
    environment = {
        "HEADGATE_DATA_DIR": str(tmp_path),
        "HEADGATE_PORT": port,
        "HEADGATE_RESP_PORT": "off",
    }
    result = headgate("serve", *options, environment=environment)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error[configuration_error]: ")
    assert error in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_serve_says_that_a_port_is_taken(tmp_path, service):
    environment = {"HEADGATE_DATA_DIR": str(tmp_path), "HEADGATE_RESP_PORT": str(service.resp_port)}
    for variables in ({"HEADGATE_PORT": str(service.server.port)}, {"HEADGATE_PORT": "0"}):
        result = headgate("serve", environment={**environment, **variables})
        assert result.returncode == 2
        assert "error[configuration_error]: " in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_with_0_on_a_signal(tmp_path, number):
    with serving(tmp_path) as service:
        service.server.process.send_signal(number)
        assert service.server.process.wait(20) == 0
        assert "Traceback" not in service.server.log


@pytest.mark.slow
def test_a_signal_between_the_first_port_and_the_last_ends_it_with_0(tmp_path):
    # The port of RESP opens first; REST accepts later, and only then was the signal waited for.
    for _ in range(5):
        with serving(tmp_path) as service:
            service.server.process.send_signal(signal.SIGTERM)
            assert service.server.process.wait(20) == 0, service.server.log


def test_output_that_nobody_reads_is_no_failure(service):
    with subprocess.Popen(
        [*HEADGATE, "serve", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
