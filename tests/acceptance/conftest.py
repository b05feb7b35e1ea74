"""What the acceptance tests of the service share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.service import Service, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests of a module; they use names and keys of their own."""
    with running_service(tmp_path_factory.mktemp("service")) as running:
        yield running
