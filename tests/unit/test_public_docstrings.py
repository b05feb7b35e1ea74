"""What users read in their editor: every public name, and what is public on it, is documented.

Lint leaves this to us (D102 and D103 are off), because inside the package a docstring must earn its place.
"""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

import pytest

import headgate
import headgate.testing
from tests.support.build import compiled_build

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
PUBLIC = [(module, name) for module in (headgate, headgate.testing) for name in module.__all__]

in_plain_python = pytest.mark.skipif(
    compiled_build(), reason="mypyc does not keep every docstring; plain Python has the same source"
)


def own_public_members(cls):
    """What the class defines under a public name, in this package."""
    for name, member in vars(cls).items():
        if not name.startswith("_") and (
            inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod))
        ):
            yield name, member


@in_plain_python
@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_public_names_are_documented(module, name):
    thing = getattr(module, name)
    if not (inspect.isclass(thing) or callable(thing)):
        return  # constants are documented where they are defined
    assert thing.__doc__, f"{name} has no docstring"
    if inspect.isclass(thing):
        bare = [member for member, value in own_public_members(thing) if not inspect.getdoc(value)]
        assert not bare, f"{name} leaves undocumented: {', '.join(bare)}"


def test_the_version_is_stated_once():
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    assert headgate.__version__ == project["version"]
