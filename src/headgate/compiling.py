"""What the hot rooms tell the compiler, and what stands in for it at run time.

The compiler reads `mypyc_attr` off the source, so at run time it has nothing to do, and nobody who
installs Headgate needs the package that it comes from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:

    def mypyc_attr(**_: object) -> object:
        """Leave a class as it is."""
        return lambda decorated: decorated


__all__ = ["mypyc_attr"]
