"""The commands of the RESP door, one function each, and the table of them."""

# ruff: noqa: ARG001 - every command is called the same way, whether it needs its arguments or not

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from headgate.errors import InvalidInput, InvalidKey, MalformedRequest
from headgate.priority import DEFAULT_TIER, tier_of
from headgate.server.resp_door import AuthRequest
from headgate.server.resp_late import reply_to
from headgate.server.resp_replies import (
    NIL,
    OK,
    array,
    bulk,
    failure,
    integer,
    mapping,
)
from headgate.server.resp_table import Command
from headgate.server.resp_throttle import read_cost, whole_number

if TYPE_CHECKING:
    from headgate.server.resp_late import LateReply
    from headgate.server.resp_session import RespSession

__all__ = ["COMMANDS"]

_ONE: Final = b"1"
MAX_TTL_MS: Final = 86_400_000


# Decisions ---------------------------------------------------------------------------------------


def _throttle(session: RespSession, args: list[bytes]) -> bytes | LateReply:
    door = session.door
    key = _key(args[1], door.max_key_bytes)
    cost = 1 if len(args) == 5 or args[5] == _ONE else read_cost("quantity", args[5])
    overload = door.service.overload
    overload.asked += 1
    if overload.sheds:
        overload.require_room(DEFAULT_TIER)
    return door.throttles.answer(key, (args[2], args[3], args[4]), cost, door.now_ns())


def _check(session: RespSession, args: list[bytes]) -> bytes | LateReply:
    priority, start = _priority(args, 3)
    metadata = _metadata(args, start)
    decision = session.door.service.check(_name(args[1]), _tokens(args[2]), metadata, 0, priority)
    return reply_to(decision, session.protocol)


def _peek(session: RespSession, args: list[bytes]) -> bytes | LateReply:
    priority, start = _priority(args, 3)
    metadata = _metadata(args, start)
    decision = session.door.service.peek(_name(args[1]), _tokens(args[2]), metadata, priority)
    return reply_to(decision, session.protocol)


def _refund(session: RespSession, args: list[bytes]) -> bytes | LateReply:
    metadata = _metadata(args, 3)
    decision = session.door.service.refund(_name(args[1]), _tokens(args[2]), metadata)
    return reply_to(decision, session.protocol)


def _reserve(session: RespSession, args: list[bytes]) -> bytes | LateReply:
    priority, start = _priority(args, 4)
    metadata = _metadata(args, start)
    ttl = _ttl_seconds(args[3])
    held = session.door.service.reserve(_name(args[1]), _tokens(args[2]), metadata, ttl, priority)
    return reply_to(held, session.protocol)


def _commit(session: RespSession, args: list[bytes]) -> bytes | LateReply:
    tokens = _tokens(args[2]) if len(args) == 3 else None
    return reply_to(session.door.service.commit(_text(args[1]), tokens), session.protocol)


def _release(session: RespSession, args: list[bytes]) -> bytes | LateReply:
    return reply_to(session.door.service.release(_text(args[1])), session.protocol)


# The connection ----------------------------------------------------------------------------------


def _ping(session: RespSession, args: list[bytes]) -> bytes:
    return bulk(args[1]) if len(args) == 2 else b"+PONG\r\n"


def _echo(session: RespSession, args: list[bytes]) -> bytes:
    return bulk(args[1])


def _auth(session: RespSession, args: list[bytes]) -> bytes:
    # Redis has users; a token says all there is to say, so a user's name is taken and not looked at.
    session.pending = AuthRequest(_text(args[-1]), None)
    return b""


def _hello(session: RespSession, args: list[bytes]) -> bytes:
    protocol = session.protocol
    if len(args) > 1:
        if args[1] not in {b"2", b"3"}:
            return failure("NOPROTO", "unsupported protocol version; send HELLO 2 or HELLO 3")
        protocol = int(args[1])
    token, name = _hello_options(args[2:])
    if name is not None:
        session.name = _client_name(name)
    if token is not None:
        session.pending = AuthRequest(token, protocol)
        return b""
    return session.greet(protocol)


def _hello_options(options: list[bytes]) -> tuple[str | None, bytes | None]:
    """The token and the name in HELLO's options."""
    token: str | None = None
    name: bytes | None = None
    rest = list(options)
    while rest:
        option = rest.pop(0).upper()
        if option == b"AUTH" and len(rest) >= 2:
            token = _text(rest[1])
            rest = rest[2:]
        elif option == b"SETNAME" and rest:
            name = rest.pop(0)
        else:
            shown = ascii(option[:40].decode("utf-8", "replace"))
            raise InvalidInput(f"HELLO takes AUTH <user> <token> and SETNAME <name>, got {shown}")
    return token, name


def _client_name(name: bytes) -> bytes:
    if len(name) > 128 or not name.decode("latin-1").isprintable() or b" " in name:
        raise InvalidInput("a client's name has at most 128 printable characters and no spaces")
    return name


def _client(session: RespSession, args: list[bytes]) -> bytes:
    what = args[1].upper()
    if what == b"ID":
        return integer(session.number)
    if what == b"GETNAME":
        return bulk(session.name) if session.name else NIL[session.protocol]
    if what == b"SETNAME" and len(args) == 3:
        session.name = _client_name(args[2])
        return OK
    if what in {b"SETINFO", b"NO-EVICT", b"NO-TOUCH"}:
        return OK
    raise InvalidInput("CLIENT knows ID, GETNAME, SETNAME <name> and SETINFO <attribute> <value>")


def _select(session: RespSession, args: list[bytes]) -> bytes:
    if args[1] == b"0":
        return OK
    raise InvalidInput("there is one database; SELECT 0, and tell keys apart by a prefix")


def _reset(session: RespSession, args: list[bytes]) -> bytes:
    session.protocol = 2
    session.name = b""
    session.forget_token()
    return b"+RESET\r\n"


def _quit(session: RespSession, args: list[bytes]) -> bytes:
    session.closing = True
    return OK


# The service -------------------------------------------------------------------------------------


def _info(session: RespSession, args: list[bytes]) -> bytes:
    wanted = {arg.decode("ascii", "replace").lower() for arg in args[1:]}
    if wanted & {"all", "default", "everything"}:
        wanted = set()
    return bulk(session.door.info(wanted).encode())


def _config(session: RespSession, args: list[bytes]) -> bytes:
    # redis-benchmark and dashboards ask; settings are not told over this door.
    if args[1].upper() == b"GET":
        return mapping([], session.protocol)
    raise InvalidInput("CONFIG knows GET, and there is nothing to get; see headgate serve --help")


def _command(session: RespSession, args: list[bytes]) -> bytes:
    what = args[1].upper() if len(args) > 1 else b"INFO"
    if what == b"COUNT":
        return integer(len(COMMANDS) // 2)
    if what == b"DOCS":
        docs = [(c.text.lower().encode(), _docs(c, session.protocol)) for c in _named(args[2:])]
        return mapping(docs, session.protocol)
    if what == b"INFO":
        return array([_described(name) for name in args[2:] or _names()])
    if what == b"LIST":
        return array([bulk(name) for name in _names()])
    raise InvalidInput("COMMAND knows COUNT, DOCS, INFO and LIST")


def _names() -> list[bytes]:
    return [name for name in COMMANDS if name.islower()]


def _named(names: list[bytes]) -> list[Command]:
    """The commands of these names that exist; all when none is named."""
    return [COMMANDS[name.upper()] for name in names or _names() if name.upper() in COMMANDS]


def _described(name: bytes) -> bytes:
    """What COMMAND INFO tells: name, arity, flags, and where the key stands."""
    command = COMMANDS.get(name.upper())
    if command is None:
        return b"*-1\r\n"
    arity = command.least if command.least == command.most else -command.least
    flags = [b"+write\r\n" if command.scope == "check" else b"+readonly\r\n", b"+fast\r\n"]
    place = integer(1 if command.keyed else 0)
    # What Redis 7 adds: categories, tips, key specifications, subcommands.
    more = [b"*0\r\n"] * 4
    return array([bulk(name.lower()), integer(arity), array(flags), place, place, place, *more])


def _docs(command: Command, protocol: int) -> bytes:
    group = b"scripting" if command.scope == "check" else b"connection"
    docs = [
        (b"summary", bulk(f"{command.summary} Usage: {command.usage}".encode())),
        (b"since", bulk(b"0.1.0")),
        (b"group", bulk(group)),
    ]
    return mapping(docs, protocol)


# Arguments ---------------------------------------------------------------------------------------


def _key(raw: bytes, most: int) -> str:
    if not raw or len(raw) > most:
        raise InvalidKey(
            f"a key must have 1 to {most} bytes, got {len(raw)}; send a hash of a long one"
        )
    return _text(raw)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        # REST cannot send such a text and metrics cannot show it; all doors have the same keys.
        raise MalformedRequest("arguments must be UTF-8; encode other bytes, in hex say") from None


def _name(raw: bytes) -> str | None:
    """The key of a check; an empty one stands for none."""
    return _text(raw) if raw else None


def _ttl_seconds(raw: bytes) -> float:
    ttl = whole_number("ttl_ms", raw)
    if not 1 <= ttl <= MAX_TTL_MS:
        raise InvalidInput(f"ttl_ms must be from 1 to {MAX_TTL_MS}, got {ttl}; use another")
    return ttl / 1000


def _tokens(raw: bytes) -> int:
    return 1 if raw == _ONE else read_cost("tokens", raw)


def _priority(args: list[bytes], place: int) -> tuple[object, int]:
    """The priority, if it is named here, and where the metadata begins.

    Only in capitals and only first: a dimension may have this name too.
    """
    if len(args) <= place or args[place] != b"PRIORITY":
        return None, place
    if len(args) == place + 1:
        raise InvalidInput("PRIORITY is followed by critical, high, normal, low, or 0 to 3")
    text = _text(args[place + 1])
    return tier_of(int(text) if text in {"0", "1", "2", "3"} else text), place + 2


def _metadata(args: list[bytes], start: int) -> dict[str, str]:
    """The names and values from one argument on."""
    metadata: dict[str, str] = {}
    place = start
    if (len(args) - start) % 2 != 0:
        raise InvalidInput("metadata comes in pairs of name and value; the last name has no value")
    while place < len(args):
        metadata[_text(args[place])] = _text(args[place + 1])
        place += 2
    return metadata


# The table ---------------------------------------------------------------------------------------

_TABLE: Final = (
    Command(
        "CL.THROTTLE key max_burst count period [quantity]",
        "Ask about, and spend from, a limit that the call itself describes.",
        _throttle,
        scope="check",
        least=5,
        most=6,
        keyed=True,
    ),
    Command(
        "HEADGATE.CHECK key tokens [PRIORITY priority] [name value ...]",
        "Ask all policies that apply, and spend when all admit.",
        _check,
        scope="check",
        least=3,
        keyed=True,
    ),
    Command(
        "HEADGATE.PEEK key tokens [PRIORITY priority] [name value ...]",
        "Ask all policies that apply, and spend nothing.",
        _peek,
        scope="check",
        least=3,
        keyed=True,
    ),
    Command(
        "HEADGATE.REFUND key tokens [name value ...]",
        "Give tokens back.",
        _refund,
        scope="check",
        least=3,
        keyed=True,
    ),
    Command(
        "HEADGATE.RESERVE key tokens ttl_ms [PRIORITY priority] [name value ...]",
        "Set tokens aside until they are committed, released, or the time is over.",
        _reserve,
        scope="check",
        least=4,
        keyed=True,
    ),
    Command(
        "HEADGATE.COMMIT id [tokens]",
        "Settle a reservation at its real cost.",
        _commit,
        scope="check",
        least=2,
        most=3,
    ),
    Command(
        "HEADGATE.RELEASE id",
        "Give a whole reservation back.",
        _release,
        scope="check",
        least=2,
        most=2,
    ),
    Command("PING [message]", "Answer PONG, or the message.", _ping, least=1, most=2),
    Command("ECHO message", "Answer the message.", _echo, least=2, most=2),
    Command("AUTH [user] token", "Say who is asking.", _auth, least=2, most=3),
    Command(
        "HELLO [2|3 [AUTH user token] [SETNAME name]]",
        "Choose the protocol, and say who is asking.",
        _hello,
        least=1,
        most=7,
    ),
    Command("CLIENT ID|GETNAME|SETNAME|SETINFO ...", "About this connection.", _client, least=2),
    Command("SELECT 0", "There is one database.", _select, least=2, most=2),
    Command("RESET", "Back to how a connection begins.", _reset, least=1, most=1),
    Command("QUIT", "Close the connection.", _quit, least=1, most=1),
    Command("INFO [section ...]", "About the service.", _info, scope="read", least=1),
    Command("CONFIG GET ...", "For tools that insist on asking.", _config, scope="read", least=2),
    Command("COMMAND [COUNT|DOCS|INFO|LIST] ...", "About the commands.", _command, least=1),
)

# Under their names in capitals and in small letters, so that the usual spellings are found at once.
COMMANDS: Final[dict[bytes, Command]] = {
    name.encode(): one for one in _TABLE for name in (one.text, one.text.lower())
}
