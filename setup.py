"""Compile the hot rooms with mypyc; everything else about the build is in pyproject.toml.

The same source runs uncompiled, so compiling is an improvement and never a condition. It is all or nothing:

* ``HEADGATE_PURE=1`` does not try. An editable install never does, so that no ``.so`` lands in ``src/``.
* When mypyc is missing, the C compiler is missing or either of them fails, the build says so and goes on
  uncompiled. ``HEADGATE_REQUIRE_COMPILED=1`` makes that an error instead (CI and releases want to know).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent

# Globs of the modules on the path of a decision. One that matches nothing yet is skipped, and so is every
# __init__.py: packages stay plain Python, because compiling them buys nothing and complicates imports.
HOT_MODULES = (
    "src/headgate/decision.py",
    "src/headgate/algorithms/*.py",
    "src/headgate/analytics/top_keys.py",
    "src/headgate/engine/table.py",
    "src/headgate/engine/keyspace.py",
    "src/headgate/engine/together.py",
    "src/headgate/engine/reservations.py",
    "src/headgate/engine/levels.py",
    "src/headgate/engine/plan.py",
    "src/headgate/engine/policy_book.py",
    "src/headgate/engine/pending.py",
    "src/headgate/engine/leases.py",
    "src/headgate/engine/lease_book.py",
    "src/headgate/engine/store_health.py",
    "src/headgate/engine/shared_limit.py",
    "src/headgate/engine/fallback.py",
    "src/headgate/engine/debts.py",
    "src/headgate/engine/renewals.py",
    "src/headgate/engine/requests.py",
    "src/headgate/engine/renew_flight.py",
    "src/headgate/engine/hold_flights.py",
    "src/headgate/engine/shared_holds.py",
    "src/headgate/engine/sharing.py",
    "src/headgate/engine/engine.py",
    "src/headgate/policy/matching.py",
    "src/headgate/backpressure/*_limit.py",
    "src/headgate/backpressure/backoff.py",
    "src/headgate/backpressure/baseline.py",
    "src/headgate/backpressure/consecutive_breaker.py",
    "src/headgate/backpressure/controlled_delay.py",
    "src/headgate/backpressure/fair_queue.py",
    "src/headgate/backpressure/flow_book.py",
    "src/headgate/backpressure/priority_queue.py",
    "src/headgate/backpressure/seating.py",
    "src/headgate/backpressure/service_classes.py",
    "src/headgate/backpressure/waiting_order.py",
    "src/headgate/backpressure/outcome_window.py",
    "src/headgate/backpressure/breaker*.py",
    "src/headgate/backpressure/iteration_window.py",
    "src/headgate/backpressure/latency_window.py",
    "src/headgate/gates/loop_budget.py",
    "src/headgate/backpressure/shedding.py",
    "src/headgate/backpressure/tiered_shedder.py",
    "src/headgate/gates/adaptive_limiter.py",
    "src/headgate/gates/circuit_blocks.py",
    "src/headgate/gates/circuit_breaker.py",
    "src/headgate/gates/circuit_core.py",
    "src/headgate/gates/limiter.py",
    "src/headgate/gates/limiter_guard.py",
    "src/headgate/gates/load_shedder.py",
    "src/headgate/gates/shedder_guard.py",
    "src/headgate/gates/peer.py",
    "src/headgate/gates/peer_book.py",
    "src/headgate/gates/permit_line.py",
    "src/headgate/gates/permits.py",
    "src/headgate/headers.py",
    "src/headgate/server/lane.py",
    "src/headgate/server/overload.py",
    "src/headgate/server/render.py",
    "src/headgate/server/resp_*.py",
    "src/headgate/server/service.py",
)

# mypyc type-checks what it compiles. `make types` is the strict judge; here only the hot modules count, and a
# third-party package that is absent from the isolated build environment is no reason to give up.
MYPY_OPTIONS = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]

# On Linux any library may replace a function of another while loading, so the compiler does not inline calls
# between our own. Nobody means to replace these; saying so makes a decision a tenth faster.
COMPILER_FLAGS = ["-fno-semantic-interposition"] if sys.platform == "linux" else []

# The commands that produce code to run. The others (metadata, sdist, editable) must not wait for a compiler.
BUILDING = {"bdist", "bdist_wheel", "build", "build_ext", "install"}


def flag(name: str) -> bool:
    return os.environ.get(name, "").lower() not in {"", "0", "false", "no"}


def hot_files() -> list[str]:
    found = {path for pattern in HOT_MODULES for path in ROOT.glob(pattern)}
    return sorted(str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py")


def uncompiled(reason: str) -> None:
    if flag("HEADGATE_REQUIRE_COMPILED"):
        sys.exit(f"headgate: cannot compile ({reason}), and HEADGATE_REQUIRE_COMPILED is set")
    print(f"headgate: building uncompiled: {reason}", file=sys.stderr)


def extensions() -> list[Extension]:
    if flag("HEADGATE_PURE") or not BUILDING.intersection(sys.argv):
        return []
    files = hot_files()
    if not files:
        return []
    try:
        from mypyc.build import mypycify

        # debug_level 0: debug symbols would triple the size of the wheel.
        found = list(
            mypycify(MYPY_OPTIONS + files, opt_level="3", debug_level="0", group_name="headgate")
        )
        for extension in found:
            extension.extra_compile_args += COMPILER_FLAGS
        return found
    except ImportError as error:
        uncompiled(f"mypyc is not usable ({error})")
    except SystemExit as error:  # how mypyc reports that it refuses a module
        uncompiled(f"mypyc gave up ({error})")
    except Exception as error:  # noqa: BLE001 - a crash in mypyc must not stop an installation
        uncompiled(f"mypyc crashed ({type(error).__name__}: {error})")
    return []


class AllOrNothing(build_ext):
    """Build every extension or none: a shim without its shared library would break `import headgate`."""

    def run(self) -> None:
        if self.inplace:
            uncompiled("compiled modules are never put into src/")
            self._forget()
            return
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 - compilers fail with many types of error
            self._forget()
            uncompiled(f"the C compiler failed ({error})")

    def _forget(self) -> None:
        for extension in self.extensions or []:
            Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
        self.extensions: list[Any] = []
        self.distribution.ext_modules = []


if __name__ == "__main__":  # also how build backends run this file
    setup(ext_modules=extensions(), cmdclass={"build_ext": AllOrNothing})
