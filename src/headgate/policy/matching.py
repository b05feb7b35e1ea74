r"""Patterns over one attribute: exact, prefix, wildcard, presence.

``acme`` is exact, ``/api/*`` a prefix, ``*`` presence, ``/v*/items`` a wildcard; ``\*`` is a literal
star. A pattern is matched in time linear in the value, whatever the pattern: no regular expressions.
"""

from __future__ import annotations

from typing import final

__all__ = ["Pattern"]


@final
class Pattern:
    """One compiled pattern: literal parts with stars between them.

    Attributes:
        text: as it was written.
        head: the part before the first star; the whole when there is none.
        tail: the part after the last star; the whole when there is none.
        is_exact: no star at all.
    """

    def __init__(self, text: str) -> None:
        parts = _split_at_stars(text)
        self.text = text
        self.head = parts[0]
        self.tail = parts[-1]
        self.is_exact = len(parts) == 1
        self._middle = parts[1:-1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def matches(self, value: str) -> bool:
        """Whether the whole value fits."""
        if self.is_exact:
            return value == self.head
        if not value.startswith(self.head):
            return False
        # Leftmost placement of each middle part leaves the most room for the rest, so it is enough.
        at = len(self.head)
        for part in self._middle:
            found = value.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return len(value) - at >= len(self.tail) and value.endswith(self.tail)


def _split_at_stars(text: str) -> list[str]:
    """The literal parts around unescaped stars, with the escapes taken out."""
    parts = [""]
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\" and position + 1 < len(text) and text[position + 1] in "\\*":
            position += 1
            parts[-1] += text[position]
        elif char == "*":
            parts.append("")
        else:
            parts[-1] += char
        position += 1
    return parts
