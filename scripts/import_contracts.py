"""Import contracts over rooms of which some are not built yet.

import-linter's own contracts refuse to name a module that does not exist. Ours name every room of
ARCHITECTURE.md once and for all; a room is held to them from the day it appears.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.protected import ProtectedContract

if TYPE_CHECKING:
    from grimp import ImportGraph
    from importlinter import ContractCheck


def existing(expressions: Any, graph: ImportGraph) -> list[Any]:
    """Without the modules of this package that are not there; external ones may be absent anyway."""
    return [
        each
        for each in expressions
        if each.expression in graph.modules or not each.expression.startswith("headgate.")
    ]


class ForbiddenRooms(ForbiddenContract):
    """Source rooms that must not import the forbidden modules."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001 - inherited
        self.source_modules = existing(self.source_modules, graph)
        self.forbidden_modules = existing(self.forbidden_modules, graph)
        return super().check(graph, verbose)


class ProtectedRooms(ProtectedContract):
    """Rooms that only the allowed importers may import."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: FBT001 - inherited
        self.protected_modules = existing(self.protected_modules, graph)
        self.allowed_importers = existing(self.allowed_importers, graph)
        return super().check(graph, verbose)
