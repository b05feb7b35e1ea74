"""The refusals that every store words alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from headgate.errors import Conflict, InvalidPolicy, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.policy.model import Policy

__all__ = [
    "check_names_differ",
    "check_same_name",
    "check_setting_version",
    "check_version",
    "clean_actor",
    "no_such_policy",
    "no_such_token",
    "policy_exists",
]

_MAX_ACTOR: Final = 128
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def no_such_policy(name: str) -> NotFound:
    """There is no policy of this name."""
    message = f"there is no policy {name[:128]!a}; create it, or list the policies for its name"
    return NotFound(message, name=name)


def no_such_token(token_id: str) -> NotFound:
    """There is no token of this id."""
    message = f"there is no token {token_id[:128]!a}; list the tokens for its id"
    return NotFound(message, id=token_id)


def policy_exists(name: str, current_version: int) -> Conflict:
    """A create met a policy of the same name."""
    message = f"the policy {name!r} exists already; replace it, or choose another name"
    return Conflict(message, name=name, current_version=current_version)


def check_version(name: str, expected: int | None, current: int) -> None:
    """Refuse a change that was made for another version."""
    if expected is not None and expected != current:
        message = (
            f"the policy {name!r} is at version {current}, and the change was made for version {expected}; "
            "read it again and repeat the change"
        )
        raise Conflict(message, name=name, expected_version=expected, current_version=current)


def check_same_name(name: str, policy: Policy) -> None:
    """Refuse to rename by replacing."""
    if policy.name != name:
        message = (
            f"name must be {name!r} as in the address, got {policy.name!r}; to rename a policy, "
            "create it under the new name and delete the old one"
        )
        raise InvalidPolicy(message, "name")


def check_setting_version(name: str, expected: int | None, current: int) -> None:
    """Refuse a put that was made for another version."""
    if expected is not None and expected != current:
        message = (
            f"the settings {name!r} are at version {current}, and the change was made for version "
            f"{expected}; read them again and repeat the change"
        )
        raise Conflict(message, name=name, expected_version=expected, current_version=current)


def check_names_differ(policies: Sequence[Policy]) -> None:
    """Refuse a set of policies in which two have the same name."""
    seen: set[str] = set()
    for policy in policies:
        if policy.name in seen:
            message = f"name must be unique, got {policy.name!r} twice; rename one"
            raise InvalidPolicy(message, "name")
        seen.add(policy.name)


def clean_actor(actor: str) -> str:
    """Who made a change, as every database can keep it."""
    return _UNPRINTABLE.sub("?", actor)[:_MAX_ACTOR]
