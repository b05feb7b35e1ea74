"""What nodes agree by: an etcd, or else the Redis that they count with, or nobody but the node itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from headgate.coordination.single_agreement import SingleAgreement
from headgate.errors import ConfigurationError, InvalidInput
from headgate.storage.agreed import AgreedStore

if TYPE_CHECKING:
    from headgate.clock import Clock
    from headgate.coordination.backend import Backend
    from headgate.engine.agreement import Agreement
    from headgate.settings import Settings

__all__ = ["open_agreement"]

_FILE: Final = "last-known.json"


def open_agreement(settings: Settings, clock: Clock) -> Agreement:
    """The agreement that the settings name. Nothing is reached for until it is opened, or its store is used.

    Raises:
        ConfigurationError: an address or a certificate cannot be used, or a driver is missing.
    """
    backend = _backend(settings)
    if backend is None:
        return SingleAgreement()
    from headgate.coordination.last_known import LastKnown  # noqa: PLC0415 - one node needs none
    from headgate.coordination.shared_agreement import SharedAgreement  # noqa: PLC0415 - likewise

    return SharedAgreement(
        backend,
        clock,
        partial(AgreedStore, clock=clock),
        LastKnown(settings.data_dir / _FILE, settings.cluster),
    )


def _backend(settings: Settings) -> Backend | None:
    if settings.etcd_endpoints:
        from headgate.coordination.etcd_backend import EtcdBackend  # noqa: PLC0415 - see above
        from headgate.coordination.etcd_client import EtcdAccess, EtcdClient  # noqa: PLC0415

        access = EtcdAccess(
            settings.etcd_endpoints,
            settings.etcd_user,
            settings.etcd_password,
            settings.etcd_ca,
            settings.etcd_certificate,
            settings.etcd_key,
        )
        return EtcdBackend(EtcdClient(access), settings.cluster)
    if settings.redis_url:
        from headgate.coordination.redis_address import RedisAddress  # noqa: PLC0415 - see above
        from headgate.coordination.redis_backend import RedisBackend  # noqa: PLC0415

        try:
            address = RedisAddress.read(settings.redis_url, settings.redis_ca)
        except InvalidInput as error:
            raise ConfigurationError(error.message, setting="redis_url") from error
        return RedisBackend(address, settings.cluster)
    return None
