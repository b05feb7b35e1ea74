"""Versions as entity tags, and the conditions that requests make with them (RFC 9110, section 13)."""

from __future__ import annotations

import re
from typing import Final

from headgate.errors import MalformedRequest

__all__ = ["ANY_VERSION", "etag_of", "names_version", "versions_in"]

ANY_VERSION: Final = frozenset({-1})
"""``*``: any version at all."""

_TAG: Final = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*')


def etag_of(version: int | str) -> bytes:
    """The tag of a version."""
    return f'"{version}"'.encode("ascii")


def names_version(field: str | None, version: int | str) -> bool:
    """Whether If-None-Match names this version, so that the answer can be 304."""
    if field is None:
        return False
    return field.strip() == "*" or str(version) in [tag for _, tag in _tags(field)]


def versions_in(field: str | None) -> frozenset[int] | None:
    """The versions that If-Match names; `ANY_VERSION` for ``*``, None when there is no condition.

    A weak tag, or one that is none of ours, names no version: the condition then holds for none.
    """
    if field is None:
        return None
    if field.strip() == "*":
        return ANY_VERSION
    return frozenset(
        int(tag)
        for weak, tag in _tags(field)
        if not weak and tag.isascii() and tag.isdigit() and len(tag) < 19
    )


def _tags(field: str) -> list[tuple[str, str]]:
    tags: list[tuple[str, str]] = []
    at = 0
    while at < len(field) or not tags:
        found = _TAG.match(field, at)
        at = found.end() if found else at
        if found is None or (at < len(field) and field[at] != ","):
            message = 'If-Match and If-None-Match take * or a list of tags such as "3"'
            raise MalformedRequest(message)
        tags.append((found[1] or "", found[2]))
        at += 1
    return tags
