"""Traffic generated from the service's own description of itself, good and bad, all checks on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.service import HOST

if TYPE_CHECKING:
    from tests.support.service import Service

# Some rules are between fields (no burst for a fixed window, no level twice), and JSON Schema cannot say
# them: for these calls a document that fits the description may still be refused.
RULES_BETWEEN_FIELDS = (
    "POST /api/v1/policies",
    "POST /api/v1/policies:apply",
    "PUT /api/v1/policies/{name}",
    "POST /api/v1/backpressure",
)
# What may be wrong includes the size, which the tool does not count on; a failure of ours is no refusal.
REFUSALS = [
    "400",
    "401",
    "403",
    "404",
    "405",
    "406",
    "409",
    "412",
    "413",
    "414",
    "415",
    "422",
    "431",
]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.fixture(scope="module")
def operations(service: Service) -> dict[str, Any]:
    """Every operation that the service describes, by its label such as ``POST /api/v1/check``."""
    address = f"http://{HOST}:{service.port}"
    config = SchemathesisConfig.from_dict(
        {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}
    )
    description = schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)
    return {found.ok().label: found.ok() for found in description.get_all_operations()}


def send_generated(operation: Any, mode: GenerationMode) -> None:
    excluded = [positive_data_acceptance] if operation.label in RULES_BETWEEN_FIELDS else []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=25,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def send(case: Any) -> None:
        case.call_and_validate(excluded_checks=excluded)

    send()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_every_answer_is_one_that_the_description_announces(
    operations: dict[str, Any], mode: GenerationMode
) -> None:
    failures = []
    for label, operation in operations.items():
        try:
            send_generated(operation, mode)
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, label  # nothing wrong can be said to it
        except schemathesis.errors.SchemathesisError as error:
            if "Impossible to generate" not in str(error):
                raise
        except FailureGroup as group:
            failures.append(f"{label}: {group}")
    assert not failures, "\n\n".join(failures)
