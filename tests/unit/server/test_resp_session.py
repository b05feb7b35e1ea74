"""What each command of the RESP door answers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headgate.engine.engine import Engine
from headgate.engine.ports import Token
from headgate.policy.model import Policy
from headgate.server.resp_commands import COMMANDS
from headgate.server.resp_door import RespDoor
from headgate.server.resp_info import describe
from headgate.server.resp_replies import bulk, failure, mapping
from headgate.server.resp_session import RespSession
from headgate.server.resp_throttle import ThrottleBook
from headgate.server.service import CheckService
from headgate.testing import ManualClock

POLICY = {"name": "api", "limit": 10, "window": "10s", "burst": 3, "dimensions": ["user"]}


class Gate:
    def __init__(self, *, required=False):
        self.required = required
        self.known = {}

    def recall(self, text):
        return self.known.get(text)


class Fixture:
    def __init__(self, *, required=False):
        self.clock = ManualClock()
        self.engine = Engine(self.clock)
        self.engine.set_policy(Policy.from_dict(POLICY))
        self.gate = Gate(required=required)
        throttles = ThrottleBook(self.engine.table)
        self.door = RespDoor(
            CheckService(self.engine), throttles, self.gate, self.clock.now_ns, "9.9"
        )
        self.door.describe = lambda sections: describe(self.door, sections)
        self.session = RespSession(self.door, 7)

    def __call__(self, *args):
        return self.session.execute([a if isinstance(a, bytes) else a.encode() for a in args])


@pytest.fixture
def door():
    return Fixture()


def token(*scopes):
    return Token("id", "name", frozenset(scopes), "hg_id", datetime(2026, 1, 1, tzinfo=UTC))


# Checks by policy


def test_check_spends_and_answers_with_everything(door):
    assert door("HEADGATE.CHECK", "k", "1", "user", "7") == (
        b"*7\r\n:1\r\n:10\r\n:2\r\n:0\r\n:1000\r\n:0\r\n$3\r\napi\r\n"
    )
    door("HEADGATE.CHECK", "k", "2", "user", "7")
    door.clock.advance(0.2501)
    assert door("HEADGATE.CHECK", "k", "1", "user", "7") == (
        b"*7\r\n:0\r\n:10\r\n:0\r\n:750\r\n:2750\r\n:0\r\n$3\r\napi\r\n"
    ), "times are rounded up"


def test_a_check_that_can_never_pass_has_no_retry(door):
    assert door("HEADGATE.CHECK", "k", "4", "user", "7").split(b"\r\n")[4] == b":-1"


def test_resp3_answers_with_a_map(door):
    door("HELLO", "3")
    assert door("headgate.check", "k", "1", "user", "7") == (
        b"%7\r\n$7\r\nallowed\r\n#t\r\n$5\r\nlimit\r\n:10\r\n$9\r\nremaining\r\n:2\r\n"
        b"$14\r\nretry_after_ms\r\n:0\r\n$14\r\nreset_after_ms\r\n:1000\r\n$8\r\ndelay_ms\r\n:0\r\n"
        b"$6\r\npolicy\r\n$3\r\napi\r\n"
    )


def test_peek_spends_nothing(door):
    for _ in range(5):
        assert door("HEADGATE.PEEK", "k", "1", "user", "7").startswith(b"*7\r\n:1\r\n:10\r\n:3\r\n")


def test_refund_gives_back(door):
    door("HEADGATE.CHECK", "k", "3", "user", "7")
    assert door("HEADGATE.REFUND", "k", "2", "user", "7").startswith(b"*7\r\n:1\r\n:10\r\n:2\r\n")


def test_reserve_commit_release(door):
    reply = door("HEADGATE.RESERVE", "k", "3", "60000", "user", "7")
    assert reply.startswith(b"*8\r\n:1\r\n:10\r\n:0\r\n")
    held = reply.split(b"\r\n")[-2]
    assert door("HEADGATE.RESERVE", "k", "1", "60000", "user", "7").endswith(b"$0\r\n\r\n")
    assert door("HEADGATE.COMMIT", held, "1").startswith(b"*7\r\n:1\r\n:10\r\n:2\r\n")
    assert door("HEADGATE.COMMIT", held).startswith(b"-ERR unknown_reservation ")
    other = door("HEADGATE.RESERVE", "k", "2", "60000", "user", "7").split(b"\r\n")[-2]
    assert door("HEADGATE.RELEASE", other).startswith(b"*7\r\n:1\r\n:10\r\n:2\r\n")


def test_a_reservation_expires(door):
    door("HEADGATE.RESERVE", "k", "3", "500", "user", "7")
    door.clock.advance(0.5)
    assert door("HEADGATE.PEEK", "k", "0", "user", "7").split(b"\r\n")[3] == b":3"


def test_an_empty_key_stands_for_none(door):
    assert door("HEADGATE.CHECK", "", "1", "user", "7").startswith(b"*7\r\n:1\r\n:10\r\n:2")


def test_no_policy_applies(door):
    assert door("HEADGATE.CHECK", "k", "1").endswith(b"$0\r\n\r\n")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("HEADGATE.CHECK", "k", "-1"), "invalid_input tokens must be a whole number"),
        (("HEADGATE.CHECK", "k", "1e3"), "invalid_input tokens must be a whole number"),
        (("HEADGATE.CHECK", "k", "1000000000001"), "invalid_cost tokens must be <="),
        (("HEADGATE.CHECK", "k" * 1025, "1"), "invalid_key "),
        (("HEADGATE.CHECK", b"\xff", "1"), "malformed_request arguments must be UTF-8"),
        (("HEADGATE.CHECK", "k", "1", "user"), "invalid_input metadata comes in pairs"),
        (("HEADGATE.CHECK", "k", "1", "key", "x"), "invalid_input metadata must not have an entry"),
        (
            ("HEADGATE.CHECK", "k", "1", "", "x"),
            "invalid_input a name in metadata must not be empty",
        ),
        (("HEADGATE.CHECK", "k"), "wrong_arguments HEADGATE.CHECK is used as: HEADGATE.CHECK key"),
        (("HEADGATE.RESERVE", "k", "1", "0"), "invalid_input ttl_ms must be from 1 to 86400000"),
        (("HEADGATE.RESERVE", "k", "1", "86400001"), "invalid_input ttl_ms must be"),
        (("HEADGATE.COMMIT", "nothing"), "unknown_reservation "),
        (("HEADGATE.COMMIT", "x", "-3"), "invalid_input tokens must be a whole number"),
        (("CL.THROTTLE", "k", "1", "1"), "wrong_arguments CL.THROTTLE is used as: CL.THROTTLE key"),
        (("CL.THROTTLE", "", "1", "1", "1"), "invalid_key a key must have 1 to 1024 bytes, got 0"),
        (("CL.THROTTLE", "k" * 1025, "1", "1", "1"), "invalid_key a key must have 1 to 1024 bytes"),
        (("CL.THROTTLE", "k", "1", "0", "1"), "invalid_rate count must be >= 1"),
        (
            ("CL.THROTTLE", "k", "1", "1", "1", "-1"),
            "invalid_input quantity must be a whole number",
        ),
        (("GET", "k"), "unknown_command 'GET' is no command here"),
        ((b"\x00\r\n\xff",), r"unknown_command '\x00\r\n"),
        (("SELECT", "1"), "invalid_input there is one database"),
        (("CLIENT", "KILL"), "invalid_input CLIENT knows"),
        (("CONFIG", "SET", "a", "b"), "invalid_input CONFIG knows GET"),
        (("COMMAND", "GETKEYS"), "invalid_input COMMAND knows"),
        (("HELLO", "3", "WHAT"), "invalid_input HELLO takes AUTH"),
        (("HELLO", "3", "SETNAME", "a b"), "invalid_input a client's name"),
    ],
)
def test_errors_have_a_code_and_a_remedy_on_one_line(door, command, error):
    reply = door(*command)
    assert reply.startswith(f"-ERR {error}".encode())
    assert reply.index(b"\r\n") == len(reply) - 2
    assert door("HEADGATE.PEEK", "k", "0", "user", "7").split(b"\r\n")[3] == b":3", "nothing spent"


def test_a_bug_in_a_command_is_an_error_and_no_crash(door):
    door.door.describe = lambda sections: sections[1]
    assert door("INFO") == (
        b"-ERR internal_error the command failed; the log of the service says why\r\n"
    )
    assert door("PING") == b"+PONG\r\n"


# The connection


def test_ping_echo_select_reset_quit(door):
    assert door("PING") == b"+PONG\r\n"
    assert door("PiNg", "hi") == b"$2\r\nhi\r\n"
    assert door("ECHO", b"\xff\r\n") == b"$3\r\n\xff\r\n\r\n"
    assert door("SELECT", "0") == b"+OK\r\n"
    door("HELLO", "3")
    assert door("RESET") == b"+RESET\r\n"
    assert door.session.protocol == 2
    assert door("QUIT") == b"+OK\r\n"
    assert door.session.closing


def test_hello_tells_who_answers(door):
    assert door("HELLO").startswith(b"*14\r\n$6\r\nserver\r\n$8\r\nheadgate\r\n")
    reply = door("HELLO", "3", "SETNAME", "me")
    assert reply.startswith(
        b"%7\r\n$6\r\nserver\r\n$8\r\nheadgate\r\n$7\r\nversion\r\n$3\r\n9.9\r\n"
    )
    assert b"$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n" in reply
    assert door("HELLO", "4").startswith(b"-NOPROTO ")
    assert door("CLIENT", "GETNAME") == b"$2\r\nme\r\n"


def test_client(door):
    assert door("CLIENT", "ID") == b":7\r\n"
    assert door("CLIENT", "GETNAME") == b"$-1\r\n"
    assert door("CLIENT", "SETNAME", "me") == b"+OK\r\n"
    assert door("CLIENT", "GETNAME") == b"$2\r\nme\r\n"
    assert door("CLIENT", "SETINFO", "LIB-NAME", "x") == b"+OK\r\n"
    door("HELLO", "3")
    door("RESET")
    door("HELLO", "3")
    assert door("CLIENT", "GETNAME") == b"_\r\n"


def test_http_on_this_port_is_told_so_and_closed(door):
    assert door("POST", "/", "HTTP/1.1").startswith(b"-ERR Protocol error: this is the RESP port")
    assert door.session.closing


def test_info_has_sections(door):
    text = door("INFO").decode()
    assert "redis_version:" in text
    assert "headgate_version:9.9" in text
    assert "used_cpu_user:" in text
    only = door("INFO", "CLIENTS").decode()
    assert "connected_clients:0" in only
    assert "redis_version" not in only
    assert "redis_version" in door("INFO", "cpu", "ALL").decode()


def test_command_describes_every_command(door):
    names = {name for name in COMMANDS if name.isupper()}
    assert door("COMMAND", "COUNT") == b":%d\r\n" % len(names)
    assert door("COMMAND").startswith(b"*%d\r\n" % len(names))
    assert door("COMMAND", "INFO", "ping", "nope").endswith(b"*-1\r\n")
    assert b"key max_burst count period" in door("COMMAND", "DOCS", "cl.throttle")
    assert door("COMMAND", "DOCS", "nope") == b"*0\r\n"
    assert door("COMMAND", "LIST").startswith(b"*%d\r\n" % len(names))
    assert door("CONFIG", "GET", "save") == b"*0\r\n"


# Tokens


def test_without_a_token_nothing_is_decided():
    door = Fixture(required=True)
    assert door("CL.THROTTLE", "k", "1", "1", "1").startswith(b"-NOAUTH Authentication required")
    assert door("INFO").startswith(b"-NOAUTH ")
    assert door("HELLO", "3").startswith(b"-NOAUTH ")
    assert door("PING") == b"+PONG\r\n"


def test_auth_waits_for_the_gate():
    door = Fixture(required=True)
    assert door("AUTH", "user", "hg_x") == b""
    request = door.session.pending
    assert (request.token, request.protocol) == ("hg_x", None)
    assert door.session.grant(frozenset({"check"}), request) == b"+OK\r\n"
    assert door("CL.THROTTLE", "k", "1", "1", "1").startswith(b"*5\r\n:0\r\n")
    assert door("INFO").startswith(b"-NOPERM INFO needs the scope 'read'")


def test_hello_with_auth_answers_once_the_gate_has():
    door = Fixture(required=True)
    assert door("HELLO", "3", "AUTH", "default", "hg_x", "SETNAME", "me") == b""
    reply = door.session.grant(frozenset({"read"}), door.session.pending)
    assert reply.startswith(b"%7\r\n")
    assert door("INFO").startswith(b"$")
    assert door("HEADGATE.CHECK", "k", "1").startswith(b"-NOPERM ")


def test_admin_may_everything():
    door = Fixture(required=True)
    door("AUTH", "hg_x")
    door.session.grant(frozenset({"admin"}), door.session.pending)
    assert door("INFO").startswith(b"$")
    assert door("HEADGATE.CHECK", "k", "1").startswith(b"*7")
    assert door("RESET") == b"+RESET\r\n"
    assert door("INFO").startswith(b"-NOAUTH "), "RESET forgets the token"


def test_a_token_is_looked_at_again_when_tokens_may_have_changed():
    door = Fixture(required=True)
    door("AUTH", "hg_x")
    door.session.grant(frozenset({"check", "read"}), door.session.pending)
    assert door.session.is_current()
    door.gate.known["hg_x"] = token("check")
    door.door.doubt()
    assert door.session.is_current()
    assert door("INFO").startswith(b"-NOPERM "), "it has lost a scope"
    door.gate.known.clear()
    door.door.doubt()
    assert not door.session.is_current(), "the store has to be asked"


def test_the_first_token_closes_what_was_open():
    door = Fixture()
    assert door("INFO").startswith(b"$")
    door.gate.required = True
    door.door.doubt()
    assert door.session.is_current()
    assert door("INFO").startswith(b"-NOAUTH ")


# Replies


def test_an_error_cannot_hold_a_second_reply():
    assert failure("ERR", "a\r\n+OK\r\nb\x85c") == b"-ERR a +OK b c\r\n"
    assert len(failure("ERR", "x" * 10_000)) < 600


def test_maps_in_both_protocols():
    pairs = [(b"a", bulk(b"1"))]
    assert mapping(pairs, 3) == b"%1\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert mapping(pairs, 2) == b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"
