r"""From bytes to Redis commands: the parser of the RESP door.

Two forms, as the Redis protocol has them: an array of bulk strings (``*2\r\n$4\r\nECHO\r\n...``) and an
inline command (words on a line). Everything else is refused at its first byte.

Every number that a peer can send is bounded before anything is set aside for it: that is why the parser
is written here and not borrowed. A reply parser such as hiredis believes an array header, and
``*500000000\r\n`` costs its sender twelve bytes and the receiver four gigabytes.

A half-read command is kept as the arguments read so far and at most one bulk of bytes, so a peer that
sends a byte at a time costs no more than the bytes that it sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.errors import MalformedRequest

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["CommandReader"]

DEFAULT_MAX_ARGS: Final = 256
DEFAULT_MAX_BULK: Final = 16_384
DEFAULT_MAX_COMMAND: Final = 65_536

_STAR: Final = 42
_DOLLAR: Final = 36
_CR: Final = 13
_LF: Final = 10
_MAX_HEADER: Final = 12  # digits in a header; more than any allowed length needs
_UNKNOWN: Final = -1


@final
class CommandReader:
    """Takes bytes in any pieces and gives whole commands.

    Args:
        max_args: the most arguments of one command, its name included.
        max_bulk: the most bytes of one argument, or of an inline command.
        max_command: the most bytes of all arguments of one command together.
    """

    def __init__(
        self,
        max_args: int = DEFAULT_MAX_ARGS,
        max_bulk: int = DEFAULT_MAX_BULK,
        max_command: int = DEFAULT_MAX_COMMAND,
    ) -> None:
        self._max_args: i64 = max_args
        self._max_bulk: i64 = max_bulk
        self._max_command: i64 = max_command
        self._data = b""
        self._at: i64 = 0
        self._args: list[bytes] = []
        self._missing: i64 = 0
        self._bulk: i64 = _UNKNOWN
        self._spent: i64 = 0

    @property
    def is_idle(self) -> bool:
        """Whether no byte of a command is waiting for its rest."""
        return self._missing == 0 and self._at >= len(self._data)

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        if self._at >= len(self._data):
            self._data = data
        else:
            self._data = self._data[self._at :] + data
        self._at = 0

    def next(self) -> list[bytes] | None:
        """The next command: its name and arguments; None when it is not complete.

        Raises:
            MalformedRequest: the bytes are no command, or one above a limit. There is no going on after
                it: where the next command begins is unknown.
        """
        while self._missing == 0:
            if self._at >= len(self._data):
                return None
            if self._data[self._at] != _STAR:
                words = self._inline()
                if words is None or len(words) > 0:
                    return words
                continue
            count = self._header(_STAR)
            if count == _UNKNOWN:
                return None
            if count > self._max_args:
                raise _refusal(f"a command has at most {self._max_args} arguments")
            self._args = []
            self._missing = count
            self._spent = 0
        return self._array()

    def _array(self) -> list[bytes] | None:
        """Go on with an array of bulk strings."""
        data = self._data
        size: i64 = len(data)
        while self._missing > 0:
            if self._bulk == _UNKNOWN:
                self._bulk = self._bulk_length()
                if self._bulk == _UNKNOWN:
                    return None
            start = self._at
            end = start + self._bulk
            if end + 2 > size:
                return None
            if data[end] != _CR or data[end + 1] != _LF:
                raise _refusal("a bulk string must end with CR LF where its length says")
            self._args.append(data[start:end])
            self._at = end + 2
            self._bulk = _UNKNOWN
            self._missing -= 1
        return self._args

    def _bulk_length(self) -> i64:
        """The length in a bulk's header, within bounds; unknown while the header is not complete."""
        if self._at >= len(self._data):
            return _UNKNOWN
        length = self._header(_DOLLAR)
        if length > self._max_bulk:
            raise _refusal(f"an argument has at most {self._max_bulk} bytes")
        self._spent += length
        if self._spent > self._max_command:
            raise _refusal(f"a command has at most {self._max_command} bytes")
        return length

    def _header(self, marker: i64) -> i64:
        """The number in a header such as ``$11``; unknown, with nothing read, while it is not complete."""
        data = self._data
        size: i64 = len(data)
        at = self._at
        if data[at] != marker:
            raise _refusal(f"expected {chr(marker)!r}, got {_shown(data[at])}")
        at += 1
        first = at
        number: i64 = 0
        while at < size:
            byte: i64 = data[at]
            if byte == _CR:
                break
            if byte < 48 or byte > 57 or at - first >= _MAX_HEADER:
                raise _refusal(f"invalid length after {chr(marker)!r}")
            number = number * 10 + byte - 48
            at += 1
        if at + 1 >= size:
            return _UNKNOWN
        if at == first or data[at + 1] != _LF:
            raise _refusal(f"invalid length after {chr(marker)!r}")
        self._at = at + 2
        return number

    def _inline(self) -> list[bytes] | None:
        """The words of a line; none for an empty line, None while it is not complete."""
        data = self._data
        end: i64 = data.find(b"\n", self._at)
        if (len(data) if end < 0 else end) - self._at > self._max_bulk:
            raise _refusal(f"an inline command has at most {self._max_bulk} bytes")
        if not _may_begin_a_line(data[self._at]):
            raise _refusal(f"a command begins with '*' or a letter, got {_shown(data[self._at])}")
        if end < 0:
            return None
        words = data[self._at : end].split()
        self._at = end + 1
        if len(words) > self._max_args:
            raise _refusal(f"a command has at most {self._max_args} arguments")
        return words


def _may_begin_a_line(byte: i64) -> bool:
    """A letter, or the white space of an empty line."""
    return 97 <= byte | 32 <= 122 or _is_space(byte)


def _is_space(byte: i64) -> bool:
    return byte == 32 or 9 <= byte <= 13


def _refusal(reason: str) -> MalformedRequest:
    return MalformedRequest(
        f"Protocol error: {reason}; speak RESP2 or RESP3, or send words on a line"
    )


def _shown(byte: i64) -> str:
    return ascii(chr(byte))
