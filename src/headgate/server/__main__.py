"""``python -m headgate.server``: the service, configured by its environment alone."""

from __future__ import annotations

import os
import sys

from headgate.errors import ConfigurationError
from headgate.server import run
from headgate.settings import Settings


def main() -> int:
    """Serve; 2 when the configuration does not allow it."""
    try:
        run(Settings.load(os.environ))
    except ConfigurationError as error:
        sys.stderr.write(f"headgate: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
