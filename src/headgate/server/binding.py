"""Addresses and file handles: what the service asks of the operating system before it serves."""

from __future__ import annotations

import errno
import os
import socket

from headgate.errors import ConfigurationError

__all__ = ["bind", "cannot_listen", "listen", "raise_file_limit"]

_BACKLOG = 2_048


def bind(host: str, port: int, setting: str = "port") -> socket.socket:
    """A socket that has the address. It does not listen yet: nobody should connect to what is not ready.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise cannot_listen(host, port, setting, error) from error
    try:
        if os.name == "posix":
            # Elsewhere it means that two programs may share the port.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise cannot_listen(host, port, setting, error) from error
    return bound


def listen(bound: socket.socket) -> None:
    """Accept connections on a socket from `bind`.

    Raises:
        ConfigurationError: another program was quicker.
    """
    try:
        bound.listen(_BACKLOG)
    except OSError as error:
        host, port, *_ = bound.getsockname()
        raise cannot_listen(host, port, "port", error) from error


def cannot_listen(host: str, port: int, setting: str, error: Exception) -> ConfigurationError:
    """Why an address cannot be listened on, and what to do."""
    option = f"--{setting.replace('_', '-')}"
    remedy = f"choose another with --host or {option}"
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        reason = (
            f"the port is in use; stop the program that uses it, or choose another with {option}"
        )
    elif code in {errno.EACCES, errno.EPERM}:
        reason = f"ports below 1024 need special rights; choose another with {option}"
    elif isinstance(error, socket.gaierror):
        reason = f"the host is not known; {remedy}"
    else:
        reason = f"{getattr(error, 'strerror', None) or error}; {remedy}"
    return ConfigurationError(f"cannot listen on {host}:{port}: {reason}", setting=setting)


def raise_file_limit(wanted: int) -> None:
    """Allow this process as many open files as the system grants, if it does not already."""
    try:
        import resource  # noqa: PLC0415 - Windows has none, and no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
