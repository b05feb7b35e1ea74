"""The ten experiments, each in its module ``expNN_<name>``, found by that name."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.errors import NotFound

if TYPE_CHECKING:
    from headgate.lab.report import Experiment

__all__ = ["all_experiments", "experiment"]


def all_experiments() -> list[Experiment]:
    """By number."""
    return [_load(name) for _, name in sorted(_modules().items())]


def experiment(number: int) -> Experiment:
    """The one of this number; only its module is imported.

    Raises:
        NotFound: there is none.
    """
    name = _modules().get(number)
    if name is None:
        raise NotFound(
            f"there is no experiment {number}; headgate lab list names them", number=number
        )
    return _load(name)


def _modules() -> dict[int, str]:
    """The modules' names by number."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return {int(one.name[3:5]): one.name for one in found if one.name.startswith("exp")}


def _load(name: str) -> Experiment:
    found: Experiment = import_module(f"{__name__}.{name}").EXPERIMENT
    return found
