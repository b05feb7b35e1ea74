"""YAML and JSON text to a tree with lines.

Plain scalars are read by the rules of JSON, which is also the core of YAML 1.2: ``no``, ``on``, ``1:30``
and ``010`` are text. YAML 1.1 makes false, true, 90 and 8 of them, and a policy that matches the country
``NO`` would match nothing.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from headgate.policy.tree import FlawError, Node, Scalar, TreeBuilder

if TYPE_CHECKING:
    from yaml.error import Mark

__all__ = ["FLOAT", "INT", "read_tree"]

INT: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
FLOAT: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_MAX_DIGITS: Final = 40
_TEXT_TAGS: Final = (None, "!", "tag:yaml.org,2002:str")
_JSON_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|[^\s\[\]{},:"]+')


def read_tree(text: str) -> Node | None:
    """The tree of a document; None when it is empty.

    Raises:
        FlawError: it is not one document of YAML or JSON, or is above a bound.
    """
    if text.lstrip()[:1] in {"{", "["} and _is_json(text):
        return _read_json(text)
    return _read_yaml(text)


def _is_json(text: str) -> bool:
    # JSON is nearly YAML, but for tabs, escaped surrogate pairs and names above 1024 characters.
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(word: str) -> None:
    raise ValueError(word)


def _read_json(text: str) -> Node | None:
    """The tree of a text that is known to be JSON, so that its tokens are enough."""
    builder = TreeBuilder()
    line, position = 1, 0
    for match in _JSON_TOKEN.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        word = match[0]
        if word == "{":
            builder.begin({}, line)
        elif word == "[":
            builder.begin([], line)
        elif word in "}]":
            builder.end()
        elif word[0] == '"':
            string: str = json.loads(word)
            builder.scalar(string, string, line)
        else:
            builder.scalar(word, _resolve(word, line), line)
    return builder.root


def _read_yaml(text: str) -> Node | None:
    import yaml  # noqa: PLC0415 - 30 ms, for who reads policy files

    # libyaml's parser where it is there: ten times as fast. Neither of the two recurses at this level.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    reader = _YamlReader()
    try:
        for event in yaml.parse(text, Loader=loader):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        raise FlawError(_said(error.problem or error.context), _line(error.problem_mark)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise FlawError(f"a character is not allowed in YAML: {error.reason}", line) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise FlawError(_said(str(error)), 0) from error
    return reader.builder.root


class _YamlReader:
    """Turns the events of a YAML parser into those of a `TreeBuilder`."""

    def __init__(self) -> None:
        self.builder = TreeBuilder()
        self._anchors: dict[str, Node] = {}
        self._documents = 0

    def take(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "ScalarEvent":
            self._take_scalar(event)
        elif kind == "MappingStartEvent" or kind == "SequenceStartEvent":
            self._take_start(event, {} if kind == "MappingStartEvent" else [])
        elif kind == "MappingEndEvent" or kind == "SequenceEndEvent":
            self.builder.end()
        elif kind == "AliasEvent":
            self._take_alias(event)
        elif kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                message = "it must be one document; put the policies into one list"
                raise FlawError(message, _line(event.start_mark))

    def _take_scalar(self, event: Any) -> None:
        line = _line(event.start_mark)
        if event.tag not in _TEXT_TAGS:
            raise _no_tags(line)
        value = _resolve(event.value, line) if event.implicit[0] else event.value
        self._remember(event.anchor, self.builder.scalar(event.value, value, line))

    def _take_start(self, event: Any, value: dict[str, Node] | list[Node]) -> None:
        line = _line(event.start_mark)
        if event.tag is not None:
            raise _no_tags(line)
        self._remember(event.anchor, self.builder.begin(value, line))

    def _take_alias(self, event: Any) -> None:
        line = _line(event.start_mark)
        node = self._anchors.get(event.anchor)
        if node is None:
            raise FlawError(f"the alias {event.anchor[:60]!a} refers to nothing above it", line)
        self.builder.again(node, line)

    def _remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node


def _resolve(text: str, line: int) -> Scalar:
    """What a plain scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            raise FlawError(f"a number must have at most {_MAX_DIGITS} digits", line)
        return int(text)
    if FLOAT.fullmatch(text):
        return float(text)
    return text


def _no_tags(line: int) -> FlawError:
    return FlawError("tags (!...) are not understood; write the value without one", line)


def _line(mark: Mark | None) -> int:
    return mark.line + 1 if mark else 0


def _said(problem: str | None) -> str:
    """What a parser complains of, on one line."""
    return f"it is not valid YAML: {' '.join((problem or 'unreadable').split())[:200]}"
