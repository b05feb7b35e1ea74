"""Policy files: YAML or JSON text to policies and back, with errors that name the line.

A file holds one policy, a list of them, or ``policies:`` with a list. A file with any error gives no policy
at all, and its error speaks of the first flaw of each policy in it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import InvalidPolicy, MalformedRequest, TooLarge
from headgate.policy.model import Policy
from headgate.policy.text import FLOAT, read_tree
from headgate.policy.tree import FlawError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from headgate.policy.tree import Node

__all__ = ["MAX_BYTES", "dump_policies", "load_policies", "load_policy_file"]

MAX_BYTES: Final = 1024 * 1024
_MAX_SHOWN: Final = 10
_MAX_FLAWS: Final = 100
_EXOTIC_BREAKS: Final = re.compile("[\r\x85\u2028\u2029]")
_NUMBER: Final = re.compile(rf"(?:{FLOAT.pattern})\Z")
_SHAPE: Final = "a policy file holds one policy, a list of policies, or policies: with a list"


def load_policy_file(path: str | os.PathLike[str]) -> list[Policy]:
    """Read a policy file; see `load_policies`.

    Raises:
        MalformedRequest: also when the file cannot be read at all.
    """
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"{path}: the file cannot be read: {reason}; check its name and permissions"
        raise MalformedRequest(message) from error
    return load_policies(raw, str(path))


def load_policies(text: str | bytes, source: str = "policies") -> list[Policy]:
    """Read policies from the text of a file.

    Args:
        text: YAML or JSON; bytes must be UTF-8. At most 1 MiB.
        source: how errors name it: the file's name.

    Raises:
        InvalidPolicy: a policy breaks a constraint, or two have one name. ``line`` and ``field`` are those
            of the first; ``context["errors"]`` holds line, field and message of each.
        MalformedRequest: it is not UTF-8, not YAML or JSON, or not policies at all.
        TooLarge: it is above 1 MiB.
    """
    decoded = _decode(text, source)
    try:
        nodes = _policy_nodes(read_tree(decoded))
    except FlawError as flaw:
        raise _error([flaw], source, InvalidPolicy if flaw.field else MalformedRequest) from flaw
    policies, flaws = _read_all(nodes)
    if flaws:
        raise _error(flaws, source, InvalidPolicy)
    return policies


def dump_policies(policies: Sequence[Policy]) -> str:
    """The policies as a YAML file that `load_policies` reads back."""
    import yaml  # noqa: PLC0415 - 30 ms, for who writes policy files

    class Dumper(yaml.SafeDumper):
        """Writes everything out in full, and quotes the text that would come back as something else."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def represent_text(self, data: str) -> yaml.ScalarNode:
            # PyYAML folds the exotic line breaks into spaces unless they are escaped.
            style = '"' if _EXOTIC_BREAKS.search(data) else None
            return self.represent_scalar("tag:yaml.org,2002:str", data, style)

    Dumper.add_representer(str, Dumper.represent_text)
    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-0123456789"))
    documents = {"policies": [policy.to_dict() for policy in policies]}
    text: str = yaml.dump(documents, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def _decode(text: str | bytes, source: str) -> str:
    size = len(text)
    try:
        raw = text.encode() if isinstance(text, str) else text
        size = len(raw)
        if size <= MAX_BYTES:
            return raw.decode("utf-8-sig")
    except UnicodeError as error:
        line = _lines_before(text, error)
        message = f"{source}:{line}: it must be UTF-8; save it in that encoding"
        raise MalformedRequest(message, line=line) from error
    message = f"{source}: a policy file must have at most {MAX_BYTES} bytes; split it"
    raise TooLarge(message, limit=MAX_BYTES)


def _lines_before(text: str | bytes, error: UnicodeError) -> int:
    start = error.start if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else 0
    before = text[:start]
    return (before.count("\n") if isinstance(before, str) else before.count(b"\n")) + 1


def _policy_nodes(root: Node | None) -> list[Node]:
    if root is None:
        raise FlawError(f"it is empty; {_SHAPE}", 1)
    value = root.value
    if isinstance(value, dict) and "policies" in value:
        others = [name for name in value if name != "policies"]
        if others:
            message = f"beside policies: there must be nothing, got {others[0][:60]!a}"
            raise FlawError(message, root.line_of(others[0]), others[0])
        root = value["policies"]
        value = root.value
    elif isinstance(value, dict):
        return [root]
    if not isinstance(value, list):
        raise FlawError(f"it holds no policies; {_SHAPE}", root.line)
    return value


def _read_all(nodes: Sequence[Node]) -> tuple[list[Policy], list[FlawError]]:
    policies: list[Policy] = []
    flaws: list[FlawError] = []
    lines: dict[str, int] = {}
    for node in nodes:
        if len(flaws) == _MAX_FLAWS:
            break
        try:
            policy = Policy.from_dict(node.plain())
        except InvalidPolicy as error:
            flaws.append(FlawError(error.message, node.line_of(error.field), error.field))
            continue
        line = node.line_of("name")
        if policy.name in lines:
            first = lines[policy.name]
            message = f"name must be unique, got {policy.name!r} as on line {first}; rename one"
            flaws.append(FlawError(message, line, "name"))
        lines.setdefault(policy.name, line)
        policies.append(policy)
    return policies, flaws


def _error(
    flaws: Sequence[FlawError], source: str, kind: type[InvalidPolicy | MalformedRequest]
) -> InvalidPolicy | MalformedRequest:
    first = flaws[0]
    said = [f"{source}:{flaw.line}: {flaw.message}" for flaw in flaws[:_MAX_SHOWN]]
    if len(flaws) > _MAX_SHOWN:
        said.append(f"and {len(flaws) - _MAX_SHOWN} more")
    message = "; ".join(said)
    errors = [{"line": f.line, "field": f.field, "message": f.message} for f in flaws]
    if issubclass(kind, InvalidPolicy):
        return kind(message, first.field, first.line, errors=errors)
    return kind(message, line=first.line, errors=errors)
