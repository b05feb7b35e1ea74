"""Load from wrk, where it is installed: it takes less of the machine than Python does."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from headgate.errors import Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["find_wrk", "run_wrk"]

_LOOK: Final = 0.1
_SPARE_SECONDS: Final = 30.0
_SCRIPT: Final = """\
local bodies = {%s}
local at = 0
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
%s
function request()
  at = at %% #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('HEADGATE {"seconds":%%f,"answers":%%d,"not_ok":%%d,"broken":%%d,' ..
    '"p50":%%f,"p99":%%f,"p999":%%f}\\n', summary.duration / 1e6, summary.requests, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6, latency:percentile(99.9) / 1e6))
end
"""


def find_wrk() -> str | None:
    """Where wrk is; None when it is not installed."""
    return shutil.which("wrk")


def run_wrk(
    program: str,
    url: str,
    bodies: Sequence[bytes],
    *,
    token: str | None,
    connections: int,
    seconds: float,
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """Run it; its figures: seconds, answers, not_ok, broken, p50, p99, p999.

    Raises:
        Unreachable: it could not do its work.
    """
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as directory:
        script = Path(directory) / "check.lua"
        script.write_text(_SCRIPT % (",".join(_quoted(body) for body in bodies), _header(token)))
        script.chmod(0o600)
        whole = max(1, round(seconds))
        command = [program, "-t1", f"-c{connections}", f"-d{whole}s", "-s", str(script), url]
        output = _watch(command, whole, progress)
    for line in output.splitlines():
        if line.startswith("HEADGATE "):
            figures: dict[str, Any] = json.loads(line.removeprefix("HEADGATE "))
            return figures
    message = f"wrk did not do its work: {output.strip()[-300:] or 'it said nothing'}"
    raise Unreachable(message)


def _watch(command: Sequence[str], seconds: int, progress: Callable[[float], None]) -> str:
    with subprocess.Popen(  # noqa: S603 - a known program, no shell
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        looks = 0
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=_LOOK)
                except subprocess.TimeoutExpired:
                    looks += 1
                    progress(min(seconds, looks * _LOOK))
                    if looks * _LOOK > seconds + _SPARE_SECONDS:
                        message = "wrk did not end in time"
                        raise Unreachable(message) from None
                else:
                    return output
        finally:
            if process.poll() is None:
                process.kill()


def _quoted(body: bytes) -> str:
    """A Lua string; the bodies are JSON of our own making and hold no brackets like these."""
    return f"[==[{body.decode('ascii')}]==]"


def _header(token: str | None) -> str:
    return f'wrk.headers["authorization"] = "Bearer {token}"' if token else ""
