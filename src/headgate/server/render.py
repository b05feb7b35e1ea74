"""What goes out: decisions as bytes.

The fields and members are those of `headgate.headers`, which a test holds this module to. It writes them
again because a check has a few microseconds in all: what all answers about one limit have in common is
written once, and one string is put together for each answer. The lane and the route of ``check`` both send
what comes from here, so that their answers cannot differ.

Every answer is a *tail*: the header lines from content-type on, an empty line, and the body. Waits are
rounded up: to whole seconds in headers, to whole microseconds in bodies.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, final

from headgate.decision import NEVER
from headgate.headers import QUOTA_EXCEEDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_extensions import i64

    from headgate.decision import Decision

__all__ = ["Renderer", "split_tail"]

_MAX_WORDINGS: Final = 16_384
_MAX_OF_ONE_POLICY: Final = 64
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_TITLE: Final = "Request cannot be satisfied as assigned quota has been exceeded"
_AFTER_REMAINING: Final = ',"retry_after":0.0,"reset_after":'
_AFTER_RESET: Final = ',"delay":0.0}'
_REST_OF_YES: Final = 53
"""The length of the two, and of a point with six digits."""
_OVERLOADED: Final = (
    '{{"type":"urn:headgate:problem:overloaded","title":"Overloaded","status":503,"detail":"shed by '
    "{!r}: there is more work than can be done in time; retry after "
)
_REST_OF_IT: Final = ' s","code":"overloaded","policy":"{}","retry_after":'
_DEGRADED: Final = ',"degraded":true'
_DEGRADED_FIELD: Final = "\r\nx-headgate-degraded: true"
_SHED_CODE: Final = ',"code":"overloaded"'
_NO_POLICY: Final = (
    '"type":"urn:headgate:problem:no_policy","title":"No policy applies","status":429,'
    '"detail":"no policy applies to this request, and such requests are denied; add a policy whose '
    'dimensions the request has, or set no_match to allow","code":"no_policy","violated-policies":[],'
)


@final
class _Wording:
    """What all answers about one limit have in common."""

    def __init__(self, decision: Decision, after: _Wording | None) -> None:
        policy = decision.policy
        quoted = json.dumps(policy)
        quota = f"{decision.limit} per {decision.window_ns / 1e9:g} s"
        self.limit: i64 = decision.limit
        self.window_ns: i64 = decision.window_ns
        self.after = after
        self.quoted = quoted
        # The structured field strings of the draft and JSON strings agree on what a name may hold.
        self.policy_item = f"{quoted};q={decision.limit};w={_whole_seconds(decision.window_ns)}"
        self.fields = f"\r\nratelimit-policy: {self.policy_item}\r\nratelimit: {quoted};r="
        self.limit_field = f"\r\nx-ratelimit-limit: {decision.limit}\r\nx-ratelimit-remaining: "
        self.members = f',"policy":{quoted},"limit":{decision.limit},"remaining":'
        self.yes = '{"allowed":true' + self.members
        self.detail = json.dumps(f"rate limit {policy!r} reached: {quota}; ")[1:-1]
        self.no = self.refusal(quoted)

    def refusal(self, violated: str) -> str:
        """The beginning of a refusal that this limit speaks for."""
        return (
            f'{{"type":"{QUOTA_EXCEEDED}","title":"{_TITLE}","status":429,"code":"rate_limited",'
            f'"violated-policies":[{violated}],"detail":"{self.detail}'
        )


@final
class Renderer:
    """Writes decisions; keeps the wordings of the limits that it met."""

    def __init__(self) -> None:
        self._wordings: dict[str, _Wording] = {}
        self._refusals: dict[str, tuple[str, str]] = {}

    def check(self, decision: Decision) -> bytes:
        """The tail for a check: an answer, or a refusal as problem details."""
        if (
            len(decision.levels) > 0
            or decision.window_ns == 0
            or decision.delay_ns != 0
            or decision.degraded
        ):
            return self._at_length(decision)
        words = self._wording(decision)
        remaining = str(decision.remaining)
        reset_us: i64 = _microseconds(decision.reset_after_ns)
        micro = str(reset_us % 1_000_000 + 1_000_000)
        reset = str(reset_us // 1_000_000)
        if decision.allowed:
            seconds = str(_whole_seconds(decision.reset_after_ns))
            length: i64 = len(words.yes) + len(remaining) + len(reset) + _REST_OF_YES
            return (
                f"content-type: application/json\r\ncontent-length: {length}{words.fields}{remaining};"
                f"t={seconds}{words.limit_field}{remaining}\r\nx-ratelimit-reset: {seconds}\r\n\r\n"
                f"{words.yes}{remaining}{_AFTER_REMAINING}{reset}.{micro[1:]}{_AFTER_RESET}"
            ).encode("ascii")
        return self._refusal(decision, words.no)

    def overloaded(self, decision: Decision) -> bytes:
        """The tail for a request that was shed, as problem details."""
        words = self._refusals.get(decision.policy)
        if words is None:
            words = (_OVERLOADED.format(decision.policy), _REST_OF_IT.format(decision.policy))
            self._refusals[decision.policy] = words
        # To the millisecond, in which these waits are whole.
        seconds = _seconds(decision.retry_after_ns)[:-3]
        body = f"{words[0]}{seconds}{words[1]}{seconds}}}"
        return (
            f"content-type: {_PROBLEM}\r\ncontent-length: {len(body)}\r\n"
            f"retry-after: {_whole_seconds(decision.retry_after_ns)}\r\n\r\n{body}"
        ).encode("ascii")

    def answer(self, decision: Decision, extra: str = "") -> bytes:
        """The tail for an answer that refuses nothing, such as a peek's; ``extra`` are more members."""
        body = "{" + self.members(decision) + extra + "}"
        return self._tail(_JSON, body, decision, refused=False)

    def granted(self, decision: Decision, extra: str) -> bytes:
        """The tail for a check's answer with more members."""
        if decision.allowed:
            return self.answer(decision, extra)
        return self.check(decision)

    def results(self, decisions: Sequence[Decision]) -> bytes:
        """The body of a batch's answer."""
        parts: list[str] = []
        for decision in decisions:
            shed = decision.policy.startswith("(") and not decision.allowed
            parts.append("{" + self.members(decision) + (_SHED_CODE if shed else "") + "}")
        return ('{"results":[' + ",".join(parts) + "]}").encode("ascii")

    def members(self, decision: Decision) -> str:
        """A decision as the members of a JSON object, its levels included."""
        if len(decision.levels) == 0:
            return self._own_members(decision)
        levels = ["{" + self._own_members(level) + "}" for level in decision.levels]
        return self._own_members(decision) + ',"levels":[' + ",".join(levels) + "]"

    def _own_members(self, decision: Decision) -> str:
        words = self._wording(decision)
        allowed = "true" if decision.allowed else "false"
        delay = "0.0" if decision.delay_ns == 0 else _seconds(decision.delay_ns)
        degraded = _DEGRADED if decision.degraded else ""
        retry = "0.0"
        if decision.retry_after_ns == NEVER:
            retry = "null"
        elif decision.retry_after_ns != 0:
            retry = _seconds(decision.retry_after_ns)
        return (
            f'"allowed":{allowed}{words.members}{decision.remaining},"retry_after":{retry},'
            f'"reset_after":{_seconds(decision.reset_after_ns)},"delay":{delay}{degraded}'
        )

    def _at_length(self, decision: Decision) -> bytes:
        """`check` for what is rarer: several limits, a delay, no limit at all."""
        if decision.allowed:
            return self.answer(decision)
        if decision.window_ns == 0:
            return self._tail(
                _PROBLEM, "{" + _NO_POLICY + self.members(decision) + "}", decision, refused=True
            )
        if len(decision.levels) == 0:
            return self._refusal(decision, self._wording(decision).no)
        violated = [json.dumps(level.policy) for level in decision.levels if not level.allowed]
        return self._refusal(decision, self._wording(decision).refusal(",".join(violated)))

    def _refusal(self, decision: Decision, beginning: str) -> bytes:
        if decision.retry_after_ns == NEVER:
            when = "it can never pass: the cost is above the capacity"
        else:
            when = f"retry after {_seconds(decision.retry_after_ns)} s"
        body = f'{beginning}{when}",{self.members(decision)}}}'
        return self._tail(_PROBLEM, body, decision, refused=True)

    def _tail(self, media_type: str, body: str, decision: Decision, *, refused: bool) -> bytes:
        head = f"content-type: {media_type}\r\ncontent-length: {len(body)}"
        if decision.window_ns != 0:
            head += self._fields(decision)
        if decision.degraded:
            head += _DEGRADED_FIELD
        if refused and decision.retry_after_ns != NEVER:
            head += f"\r\nretry-after: {_whole_seconds(decision.retry_after_ns)}"
        return f"{head}\r\n\r\n{body}".encode("ascii")

    def _fields(self, decision: Decision) -> str:
        seconds = _reset_seconds(decision)
        words = self._wording(decision)
        own = f"{words.limit_field}{decision.remaining}\r\nx-ratelimit-reset: {seconds}"
        if len(decision.levels) == 0:
            return f"{words.fields}{decision.remaining};t={seconds}{own}"
        policies = []
        limits = []
        for level in decision.levels:
            words = self._wording(level)
            policies.append(words.policy_item)
            limits.append(f"{words.quoted};r={level.remaining};t={_reset_seconds(level)}")
        return f"\r\nratelimit-policy: {', '.join(policies)}\r\nratelimit: {', '.join(limits)}{own}"

    def _wording(self, decision: Decision) -> _Wording:
        """The wording of a decision's limit. Overrides give one policy several."""
        first = self._wordings.get(decision.policy)
        words = first
        count = 0
        while words is not None:
            if words.limit == decision.limit and words.window_ns == decision.window_ns:
                return words
            words = words.after
            count += 1
        if len(self._wordings) >= _MAX_WORDINGS:
            self._wordings.clear()
        words = _Wording(decision, first if count < _MAX_OF_ONE_POLICY else None)
        self._wordings[decision.policy] = words
        return words


def split_tail(tail: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """A tail as ASGI wants it: pairs of name and value, and the body."""
    head, _, body = tail.partition(b"\r\n\r\n")
    fields = []
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        fields.append((name, value))
    return fields, body


def _microseconds(nanoseconds: i64) -> i64:
    return (nanoseconds + 999) // 1_000


def _whole_seconds(nanoseconds: i64) -> i64:
    return (nanoseconds + 999_999_999) // 1_000_000_000


def _seconds(nanoseconds: i64) -> str:
    """Seconds as a JSON number, exact to the microsecond."""
    whole: i64 = _microseconds(nanoseconds)
    return f"{whole // 1_000_000}.{str(whole % 1_000_000 + 1_000_000)[1:]}"


def _reset_seconds(decision: Decision) -> i64:
    """What ``t`` says: when more is to be had. Retry-After must not be earlier than this."""
    if decision.allowed or decision.retry_after_ns == NEVER:
        return _whole_seconds(decision.reset_after_ns)
    return _whole_seconds(decision.retry_after_ns)
