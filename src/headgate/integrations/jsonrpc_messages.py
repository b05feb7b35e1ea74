"""JSON-RPC 2.0 on paper: from bytes to calls, and from results to text.

The definition is the specification of 2013-01-04. Where it leaves a choice:

* ``NaN`` and ``Infinity``, which Python's reader knows and JSON does not, are parse errors.
* An id is a string, a finite number or null. With any other the request is invalid, and is answered
  with the id null.
* ``params`` that are neither an array nor an object make a request invalid, null included.
* A request without an id is a notification only when it is valid; else it is answered, with the id null.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Final, final

from headgate.errors import InvalidInput

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "Call",
    "JsonRpcError",
    "PeerFault",
    "parse",
    "read_call",
    "render_error",
    "render_result",
]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603

_TITLES: Final = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid Request",
    METHOD_NOT_FOUND: "Method not found",
    INVALID_PARAMS: "Invalid params",
    INTERNAL_ERROR: "Internal error",
}
_ABSENT: Final = object()


class JsonRpcError(Exception):
    """What a handler raises to answer with an error of its own.

    Args:
        code: of the application; the specification keeps -32768 to -32000 for itself and for servers.
        message: one sentence.
        data: anything that JSON can hold; left out when None.

    Raises:
        InvalidInput: the code is no whole number.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        if isinstance(code, bool) or not isinstance(code, int):
            raise InvalidInput(f"the code of an error must be a whole number, got {code!r:.60}")
        self.code = code
        self.message = message
        self.data = data


@final
class PeerFault(Exception):
    """A message that cannot be acted on, because of what the peer sent."""

    def __init__(self, code: int, reason: str, request_id: object = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.request_id = request_id

    def render(self) -> str:
        """The answer."""
        return render_error(self.request_id, self.code, _TITLES[self.code], {"reason": self.reason})


@final
class Call:
    """One valid request.

    Attributes:
        method: its name.
        args: parameters by position.
        kwargs: parameters by name.
        request_id: what the answer repeats.
        is_notification: whether nobody waits for an answer.
    """

    __slots__ = ("args", "is_notification", "kwargs", "method", "request_id")

    def __init__(self, method: str, params: object, request_id: object) -> None:
        self.method = method
        self.args: list[Any] = params if isinstance(params, list) else []
        self.kwargs: dict[str, Any] = params if isinstance(params, dict) else {}
        self.is_notification = request_id is _ABSENT
        self.request_id = None if self.is_notification else request_id


def parse(message: bytes) -> object:
    """What the bytes say.

    Raises:
        PeerFault: they are no JSON in UTF-8, or nested too deeply.
    """
    try:
        return json.loads(message.decode("utf-8"), parse_constant=_no_json)
    except UnicodeDecodeError:
        reason = "the message is not UTF-8"
    except RecursionError:
        reason = "the message is nested too deeply"
    except ValueError as error:
        reason = f"the message is not JSON: {error!s:.100}"
    raise PeerFault(PARSE_ERROR, reason)


def read_call(entry: object) -> Call | PeerFault:
    """One request; a fault when it is none."""
    if not isinstance(entry, dict):
        return PeerFault(INVALID_REQUEST, f"a request is an object, got {type(entry).__name__}")
    request_id = entry.get("id", _ABSENT)
    if not _is_id(request_id):
        return PeerFault(INVALID_REQUEST, "id must be a string, a number or null")
    answer_id = None if request_id is _ABSENT else request_id
    if entry.get("jsonrpc") != "2.0":
        return PeerFault(INVALID_REQUEST, 'jsonrpc must be "2.0"', answer_id)
    method, params = entry.get("method"), entry.get("params", [])
    if not isinstance(method, str):
        return PeerFault(INVALID_REQUEST, "method must be a string", answer_id)
    if not isinstance(params, list | dict):
        return PeerFault(
            INVALID_REQUEST, "params must be an array or an object, or be left out", answer_id
        )
    return Call(method, params, request_id)


def render_result(request_id: object, result: object) -> str:
    """The answer to a call that went well.

    Raises:
        TypeError, ValueError, RecursionError: JSON cannot hold the result.
    """
    return _dump({"jsonrpc": "2.0", "result": result, "id": request_id})


def render_error(request_id: object, code: int, message: str, data: object = None) -> str:
    """The answer to a call that did not.

    Raises:
        TypeError, ValueError, RecursionError: JSON cannot hold the data.
    """
    error: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return _dump({"jsonrpc": "2.0", "error": error, "id": request_id})


def _dump(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _is_id(value: object) -> bool:
    if value is None or value is _ABSENT or isinstance(value, str):
        return True
    if isinstance(value, bool):
        return False
    # 1e999 is valid JSON, and would come back as no JSON at all.
    return isinstance(value, int) or (isinstance(value, float) and isfinite(value))


def _no_json(name: str) -> object:
    raise ValueError(f"{name} is no JSON value")
