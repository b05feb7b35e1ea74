"""Redis's own programs and its Python client ask the service."""

from __future__ import annotations

import subprocess

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support import servers
from tests.support.commands import serving

NO_RETRY = Retry(NoBackoff(), 0)
POLICY = """
name: api
limit: 100
window: 1h
burst: 5
dimensions: [user]
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("resp")) as service:
        applied = service.run("policy", "apply", "-", text=POLICY)
        assert applied.returncode == 0, applied.stderr
        yield service


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def client(request, service):
    with redis.Redis(port=service.resp_port, protocol=request.param) as client:
        client.protocol = request.param
        yield client


def redis_cli(service, *arguments):
    program = servers.require_program("redis-cli")
    done = subprocess.run(
        [program, "-p", str(service.resp_port), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def test_redis_py_throttles(client):
    key = f"throttled:{client.protocol}"
    answers = [client.execute_command("CL.THROTTLE", key, 2, 1, 3600) for _ in range(4)]
    assert [answer[:3] for answer in answers] == [[0, 3, 2], [0, 3, 1], [0, 3, 0], [1, 3, 0]]
    assert answers[0][3:] == [-1, 3600]
    assert 3599 <= answers[3][3] <= 3600


def test_redis_py_checks_by_policy(client):
    def ask(command, *arguments):
        answer = client.execute_command(command, *arguments, "user", f"u{client.protocol}")
        if client.protocol == 3:
            assert isinstance(answer, dict)
            return list(answer.values())
        return answer

    assert ask("HEADGATE.CHECK", "k", 2)[:4] == [1, 100, 3, 0]
    assert ask("HEADGATE.PEEK", "k", 1)[2] == 3
    assert ask("HEADGATE.REFUND", "k", 1)[2] == 4
    *_, policy, held = ask("HEADGATE.RESERVE", "k", 4, 60_000)
    assert policy == b"api"
    assert ask("HEADGATE.CHECK", "k", 1)[0] == 0
    client.execute_command("HEADGATE.RELEASE", held)
    assert ask("HEADGATE.PEEK", "k", 1)[2] == 4
    with pytest.raises(redis.ResponseError, match="unknown_reservation"):
        client.execute_command("HEADGATE.COMMIT", held, 1)


def test_redis_py_pipelines(client):
    pipeline = client.pipeline(transaction=False)
    for number in range(500):
        pipeline.execute_command("CL.THROTTLE", f"piped:{client.protocol}:{number % 5}", 9, 1, 3600)
    answers = pipeline.execute()
    assert sum(answer[0] == 0 for answer in answers) == 50


def test_redis_py_asks_about_the_server(client):
    assert client.ping() is True
    assert client.echo("hello") == b"hello"
    info = client.info()
    assert info["headgate_version"]
    assert info["used_cpu_user"] > 0
    assert client.client_id() > 0
    assert client.client_setname("tests")
    assert client.client_getname() in {"tests", b"tests"}
    assert client.command_count() >= 15
    assert "cl.throttle" in client.command()
    assert client.config_get("save") == {}
    with pytest.raises(redis.ResponseError, match="unknown_command"):
        client.get("x")


async def test_redis_py_asyncio(service):
    async with redis.asyncio.Redis(port=service.resp_port) as client:
        answer = await client.execute_command("CL.THROTTLE", "async", 0, 1, 60)
        assert answer == [0, 1, 0, -1, 60]


def test_redis_cli(service):
    assert redis_cli(service, "CL.THROTTLE", "cli", "1", "1", "60") == "0\n2\n1\n-1\n60\n"
    assert redis_cli(service, "PING") == "PONG\n"
    assert "remaining 4" in redis_cli(service, "-3", "HEADGATE.CHECK", "k", "1", "user", "cli")
    assert redis_cli(service, "CL.THROTTLE", "cli", "1", "0", "60").startswith("ERR invalid_rate ")


def test_redis_cli_pipes_many(service, tmp_path):
    commands = b"".join(
        b"*5\r\n$11\r\nCL.THROTTLE\r\n$4\r\npipe\r\n$1\r\n1\r\n$1\r\n1\r\n$2\r\n60\r\n"
        for _ in range(5000)
    )
    program = servers.require_program("redis-cli")
    done = subprocess.run(
        [program, "-p", str(service.resp_port), "--pipe"],
        input=commands,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"errors: 0, replies: 5000" in done.stdout


def test_redis_benchmark(service):
    program = servers.require_program("redis-benchmark")
    command = [program, "-p", str(service.resp_port), "-n", "5000", "-P", "16", "-q", "-r", "100"]
    done = subprocess.run(
        [*command, "CL.THROTTLE", "bench:__rand_int__", "9", "100", "60"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "requests per second" in done.stdout


@pytest.mark.slow
def test_tokens_are_asked_for_once_there_are_some(tmp_path):
    with serving(tmp_path / "first") as service:
        made = service.run("token", "create", "app", "--scope", "check")
        assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    # Started anew with a token in its records, it wants one from everybody.
    with serving(tmp_path / "second", "--data-dir", str(service.data_dir)) as service:
        port = service.resp_port
        for wrong in (None, "hg_wrong"):
            with (
                redis.Redis(port=port, password=wrong, retry=NO_RETRY) as client,
                pytest.raises(redis.AuthenticationError),
            ):
                client.execute_command("CL.THROTTLE", "k", 1, 1, 60)
        for protocol in (2, 3):
            with redis.Redis(port=port, password=token, protocol=protocol) as client:
                assert client.execute_command("CL.THROTTLE", f"k{protocol}", 1, 1, 60)[0] == 0
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.info()


@pytest.mark.slow
def test_a_restart_hands_out_no_second_allowance(tmp_path):
    ask = ("CL.THROTTLE", "k", 2, 1, 3600)
    with serving(tmp_path / "first") as service, redis.Redis(port=service.resp_port) as client:
        assert [client.execute_command(*ask)[0] for _ in range(3)] == [0, 0, 0]
    assert service.server.process.returncode == 0
    with (
        serving(tmp_path / "second", "--data-dir", str(service.data_dir)) as service,
        redis.Redis(port=service.resp_port) as client,
    ):
        assert client.execute_command(*ask)[0] == 1
        assert client.execute_command("CL.THROTTLE", "other", 2, 1, 3600)[0] == 0
