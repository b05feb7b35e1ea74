"""Which limits apply?

A `Policy` names limits, the dimensions that they are counted by, and the requests that they apply to.
It is a value: validated when it is made, never changed after. The engine compiles policies into a plan.
"""

from headgate.policy.model import Level, LimitSpec, Override, Policy

__all__ = ["Level", "LimitSpec", "Override", "Policy"]
