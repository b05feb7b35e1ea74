"""The field ``adaptive`` of a policy: its limits run faster or slower by how the service copes (A6).

Either the name of a rule, or an object with the rule and its settings::

    "adaptive": "aimd"
    "adaptive": {"rule": "stepwise", "threshold": 0.8, "adjustment": 0.1}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headgate.backpressure.adaptive_rate import AdaptiveRule, make_rate_rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.policy.fields import Fields

__all__ = ["AdaptiveSpec", "read_adaptive"]


@dataclass(frozen=True, slots=True)
class AdaptiveSpec:
    """The recipe of a rule; see `headgate.backpressure.adaptive_rate`.

    Attributes:
        rule: ``aimd`` or ``stepwise``.
        threshold: of ``stepwise``; None for its default.
        adjustment: of ``stepwise``; None for its default.
    """

    rule: str
    threshold: float | None = None
    adjustment: float | None = None

    def build(self) -> AdaptiveRule:
        """The rule, at its start."""
        return make_rate_rule(self.rule, self.threshold, self.adjustment)


def read_adaptive(fields: Fields, algorithms: Iterable[tuple[str, bool]]) -> AdaptiveSpec | None:
    """The field, if it is there.

    Args:
        fields: of the policy.
        algorithms: of all its limits: the name, and whether it follows a calendar.

    Raises:
        InvalidPolicy: it makes no sense, or not for these limits.
    """
    if not fields.given("adaptive"):
        return None
    value: Any = fields.data["adaptive"]
    spec = AdaptiveSpec(value) if isinstance(value, str) else _read_object(fields)
    with fields.naming("adaptive"):
        spec.build()
    for name, by_calendar in algorithms:
        if name == "concurrency" or by_calendar:
            what = "a time zone" if by_calendar else f"the algorithm {name}"
            raise fields.error(
                "adaptive", f"has no rate to adapt with {what}; leave one of them out", value
            )
    return spec


def _read_object(fields: Fields) -> AdaptiveSpec:
    inner = fields.mapping("adaptive")
    inner.only(("rule", "threshold", "adjustment"))
    return AdaptiveSpec(
        inner.text("rule", None), inner.data.get("threshold"), inner.data.get("adjustment")
    )
