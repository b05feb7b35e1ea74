"""A document as a tree that remembers its lines, built from events and bounded while it is built.

Readers of YAML and JSON feed it. Building does not recurse: a document nested a million deep is refused at
the depth limit, and one that doubles itself by aliases at the size limit, before either costs anything.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, final

__all__ = ["MAX_DEPTH", "MAX_VALUES", "FlawError", "Node", "Scalar", "TreeBuilder"]

Scalar: TypeAlias = str | float | bool | None

MAX_DEPTH: Final = 32
MAX_VALUES: Final = 250_000


class FlawError(Exception):
    """What is wrong with a document, and where.

    Attributes:
        message: the constraint and the remedy.
        line: 1-based; 0 when it is not known.
        field: the path of the value; "" when there is none.
    """

    def __init__(self, message: str, line: int, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.field = field


@final
class Node:
    """One value of a document.

    Attributes:
        value: a dict of nodes, a list of nodes, or a plain scalar.
        line: where it begins, 1-based.
        lines: for a dict, where each of its keys stands.
        size: how many values it holds when its aliases are written out, itself included.
    """

    __slots__ = ("line", "lines", "size", "value")

    def __init__(self, value: dict[str, Node] | list[Node] | Scalar, line: int) -> None:
        self.value = value
        self.line = line
        self.lines: dict[str, int] | None = {} if isinstance(value, dict) else None
        self.size = 1

    def plain(self) -> Any:
        """The value as plain Python, with nothing shared."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def line_of(self, path: str) -> int:
        """The line of a field such as ``levels.0.limit``, or of the nearest to it that is there."""
        node, line = self, self.line
        while path:
            step = node._step(path)
            if step is None:
                break
            node, line, path = step
        return line

    def _step(self, path: str) -> tuple[Node, int, str] | None:
        """The child that a path leads to first, its line, and the rest of the path."""
        if isinstance(self.value, dict) and self.lines is not None:
            # A key may itself have dots in it: the longest that fits is meant.
            fits = [key for key in self.value if path == key or path.startswith(f"{key}.")]
            if fits:
                key = max(fits, key=len)
                return self.value[key], self.lines[key], path[len(key) + 1 :]
        elif isinstance(self.value, list):
            place, _, rest = path.partition(".")
            if place.isdecimal() and int(place) < len(self.value):
                node = self.value[int(place)]
                return node, node.line, rest
        return None


@final
class TreeBuilder:
    """Takes the events of one document and makes its tree.

    Attributes:
        root: the tree once the document has ended; None when it is empty.
    """

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []
        self._keys: list[tuple[str, int] | None] = []

    def begin(self, value: dict[str, Node] | list[Node], line: int) -> Node:
        """A dict or a list begins."""
        if self._expects_key():
            raise FlawError("a field's name must be text, not a list or an object", line)
        if len(self._open) == MAX_DEPTH:
            raise FlawError(f"it is nested more than {MAX_DEPTH} deep; make it flatter", line)
        node = Node(value, line)
        self._open.append(node)
        self._keys.append(None)
        return node

    def end(self) -> None:
        """The innermost dict or list ends."""
        self._keys.pop()
        self._put(self._open.pop())

    def scalar(self, text: str, value: Scalar, line: int) -> Node:
        """A scalar: the next field's name (its text, whatever that looks like), or a value."""
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise FlawError("text must be valid Unicode, got half a surrogate pair", line)
        node = Node(value, line)
        if self._expects_key():
            self._name_field(text, line)
        else:
            self._put(node)
        return node

    def again(self, node: Node, line: int) -> None:
        """An alias: a value that stands elsewhere in the document already."""
        if self._expects_key():
            raise FlawError("a field's name must be text, not an alias", line)
        if any(node is parent for parent in self._open):
            raise FlawError("an alias must not stand inside of what it refers to", line)
        self._put(node)

    def _expects_key(self) -> bool:
        if not self._open or isinstance(self._open[-1].value, list):
            return False
        return self._keys[-1] is None

    def _name_field(self, name: str, line: int) -> None:
        parent = self._open[-1]
        if parent.lines is not None and name in parent.lines:
            shown = ascii(name[:60])
            first = parent.lines[name]
            message = f"the field {shown} is given twice, first on line {first}; remove one"
            raise FlawError(message, line, name)
        self._keys[-1] = (name, line)

    def _put(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif isinstance(parent.value, dict) and parent.lines is not None:
            name, line = self._keys[-1] or ("", node.line)
            parent.value[name] = node
            parent.lines[name] = line
            self._keys[-1] = None
        parent.size += node.size
        if parent.size > MAX_VALUES:
            raise FlawError(f"it holds more than {MAX_VALUES} values; split it", node.line)
