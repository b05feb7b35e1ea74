"""Reading one object of a plain document, field by field, with errors that name the field."""

from __future__ import annotations

import re
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from headgate.errors import InvalidInput, InvalidPolicy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Fields"]

_MAX_TEXT = 1024
_MAX_BITS = 60
_PLAIN = re.compile(r"[A-Za-z0-9_ .:/@-]{1,64}")


class Fields:
    """The fields of one object, and where that object stands in its document."""

    def __init__(self, data: object, path: str, paths: Mapping[str, str] | None = None) -> None:
        if not isinstance(data, dict):
            place = path or "a policy"
            message = f"{place} must be an object with named fields, got {_shown(data)}"
            raise InvalidPolicy(message, path)
        self.data: dict[str, Any] = data
        self.path = path
        self._paths = paths or {}
        for name in data:
            if not isinstance(name, str):
                message = f"field names must be text, got {_shown(name)}; put it in quotes"
                raise InvalidPolicy(message, path)

    def __contains__(self, name: object) -> bool:
        return name in self.data

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def given(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.data.get(name) is not None

    def inherit(self, parent: Fields, names: Sequence[str]) -> Fields:
        """These fields, with those of the parent where this object does not set them."""
        inherited = {
            name: parent.data[name] for name in names if name in parent and name not in self
        }
        paths = {name: parent.place(name) for name in inherited}
        return Fields({**inherited, **self.data}, self.path, {**self._paths, **paths})

    def only(self, names: Sequence[str]) -> None:
        """Refuse fields that are not among the names."""
        for name in self.data:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
                message = f"{self.place(name)} is not a known field; {hint}"
                raise InvalidPolicy(message, self.place(name))

    def place(self, name: str) -> str:
        """The path of a field in the whole document; a name that is no plain word is shown quoted."""
        if name in self._paths:
            return self._paths[name]
        shown = name if _PLAIN.fullmatch(name) else _shown(name)
        return f"{self.path}.{shown}" if self.path else shown

    def error(self, name: str, constraint: str, value: object) -> InvalidPolicy:
        """The error for a field that breaks a constraint."""
        place = self.place(name)
        return InvalidPolicy(f"{place} {constraint}, got {_shown(value)}", place)

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Turn an `InvalidInput` of the block into an `InvalidPolicy` that names the field."""
        try:
            yield
        except InvalidPolicy:
            raise
        except InvalidInput as error:
            place = self.place(name)
            told = error.message.removeprefix(name)
            separator = "" if told != error.message else ": "
            raise InvalidPolicy(f"{place}{separator}{told}", place) from error

    def required(self, name: str) -> Any:
        """The field's value, whatever it is."""
        if not self.given(name):
            place = self.place(name)
            raise InvalidPolicy(f"{place} is required; add it", place)
        return self.data[name]

    def text(self, name: str, default: str | None, max_length: int = _MAX_TEXT) -> str:
        """A text; required when the default is None."""
        if default is not None and not self.given(name):
            return default
        return self._text(name, self.required(name), max_length)

    def optional_text(self, name: str) -> str | None:
        """A text, or None when it is left out."""
        return self.text(name, None) if self.given(name) else None

    def texts(self, name: str, default: list[str], most: int) -> list[str]:
        """A list of texts."""
        if not self.given(name):
            return default
        value = self.data[name]
        if not isinstance(value, list) or len(value) > most:
            raise self.error(name, f"must be a list of at most {most} texts", value)
        return [self._text(name, item, _MAX_TEXT) for item in value]

    def text_or_texts(self, name: str, most: int) -> list[str]:
        """One text, or a list of at least one."""
        value = self.required(name)
        if isinstance(value, str):
            return [self._text(name, value, _MAX_TEXT)]
        texts = self.texts(name, [], most)
        if not texts:
            raise self.error(name, "must name at least one pattern; use '*' for any value", value)
        return texts

    def whole(self, name: str, default: int | None) -> int:
        """A whole number; required when the default is None."""
        if default is not None and not self.given(name):
            return default
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(name, "must be a whole number", value)
        if value.bit_length() > _MAX_BITS:
            raise self.error(name, "must be a whole number of at most 18 digits", value)
        return value

    def duration(self, name: str) -> str | float:
        """What `headgate.rate.parse_window` may be given; required."""
        value = self.required(name)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.error(name, "must be text such as '1m', or seconds", value)
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self.data[name] if self.given(name) else default
        if not isinstance(value, bool):
            raise self.error(name, "must be true or false", value)
        return value

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of a few words."""
        value = self.text(name, default)
        if value not in choices:
            raise self.error(name, f"must be one of {', '.join(choices)}", value)
        return value

    def mapping(self, name: str) -> Fields:
        """A nested object; empty when it is left out."""
        return Fields(self.data[name] if self.given(name) else {}, self.place(name))

    def objects(self, name: str, most: int) -> list[Fields]:
        """A list of nested objects; empty when it is left out."""
        value = self.data[name] if self.given(name) else []
        if not isinstance(value, list) or len(value) > most:
            raise self.error(name, f"must be a list of at most {most} objects", value)
        place = self.place(name)
        return [Fields(item, f"{place}.{number}") for number, item in enumerate(value)]

    def _text(self, name: str, value: object, max_length: int) -> str:
        if not isinstance(value, str):
            raise self.error(name, "must be text (put it in quotes)", value)
        if len(value) > max_length:
            raise self.error(name, f"must be at most {max_length} characters", value)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(name, "must be valid Unicode", value) from None
        return value


def _shown(value: object) -> str:
    """A value as a message shows it: never long, never a way to smuggle control characters."""
    if isinstance(value, str):
        shown = ascii(value[:60])
        return f"{shown}..." if len(value) > 60 else shown
    if isinstance(value, (bool, int, float)) or value is None:
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else ""
        return shown or (repr(value) if not _is_huge(value) else "a huge number")
    return f"a {type(value).__name__}"


def _is_huge(value: object) -> bool:
    return isinstance(value, int) and value.bit_length() > 128
