"""The configuration: where a value comes from, and what is refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from headgate.errors import ConfigurationError
from headgate.settings import _KINDS, Settings


def test_the_order_of_sources() -> None:
    environ = {"HEADGATE_PORT": "9000", "HEADGATE_MAX_KEYS": "5000", "HEADGATE_HOST": ""}
    settings = Settings.load(environ, port=9001, host=None)
    assert (settings.port, settings.max_keys, settings.host) == (9001, 5000, "127.0.0.1")


def test_every_setting_can_be_read() -> None:
    assert list(_KINDS) == [field.name for field in fields(Settings)]


@pytest.mark.parametrize("text", ["off", "none", "0", "OFF"])
def test_resp_can_be_switched_off(text: str) -> None:
    assert Settings.load({"HEADGATE_RESP_PORT": text}).resp_port is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"), ("port", "-1"), ("port", "http"), ("port", "8080.0"),
        ("resp_port", "70000"), ("no_match", "maybe"), ("max_keys", "1"), ("max_keys", "1e6"),
        ("request_timeout", "nan"), ("request_timeout", "inf"), ("request_timeout", "0"),
        ("drain_seconds", "-1"), ("snapshot", "perhaps"), ("log_level", "loud"),
        ("data_dir", "a\0b"), ("host", " "),
    ],
)  # fmt: skip
def test_what_is_out_of_bounds_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"HEADGATE_{name.upper()} must be "):
        Settings.load({f"HEADGATE_{name.upper()}": value})
    option = name.replace("_", "-")
    with pytest.raises(ConfigurationError, match=f"--{option} must be "):
        Settings.load({}, **{name: value})


def test_an_option_that_does_not_exist() -> None:
    with pytest.raises(ConfigurationError, match="prot"):
        Settings.load({}, prot=1)


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ConfigurationError, match="tls_key"):
        Settings(tls_certificate=Path("certificate.pem"))


def test_where_data_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load({"XDG_DATA_HOME": "/data"}).data_dir == Path("/data/headgate")
    monkeypatch.setenv("HOME", "/home/ann")
    assert Settings.load({}).data_dir == Path("/home/ann/.local/share/headgate")
    assert Settings.load({"XDG_DATA_HOME": "relative"}).data_dir.is_relative_to("/home/ann")
    settings = Settings.load({"HEADGATE_DATA_DIR": "~/x"})
    assert settings.data_dir == Path("/home/ann/x")
    assert settings.database_url == "sqlite:////home/ann/x/headgate.db"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True),
        ("[::1]", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False),
        ("localhost.evil.test", False), ("example.test", False),
    ],
)  # fmt: skip
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert Settings(host=host).is_loopback is loopback
