"""Encrypted connections to PostgreSQL: from the parameters of its URL and from files."""

import ssl
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.checkout import PREFIX
from gateway.errors import ConfigurationError
from gateway.tls import ClientTls, TlsFiles

_VARIABLE: Final = f"{PREFIX}DATABASE_URL"
_FULL: Final = "verify-full"
_CHECKED: Final = ("verify-ca", _FULL)
_MODES: Final = ("disable", "allow", "prefer", "require", *_CHECKED)
_PARAMETERS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey")
"""libpq's names, which the driver does not take as arguments."""

Encryption = ClientTls | Literal["disable", "allow", "prefer", "require"]
"""What encrypts connections: files, or how much the driver insists on it without checking."""


def read_encryption(url: URL, files: TlsFiles) -> tuple[URL, Encryption | None]:
    """Take the parameters about encryption out of a URL of PostgreSQL.

    files: as the settings name them; they win over those of the URL. A file without `sslmode` means
    `verify-full`.

    Returns:
        The URL without the parameters; what they and the files mean, None without any.

    Raises:
        ConfigurationError: they contradict each other, or a file cannot be used.

    """
    given = {name: _single(url, name) for name in _PARAMETERS if name in url.query}
    url = url.difference_update_query(_PARAMETERS)
    files = _with_paths(files, given)
    mode = given.get("sslmode", _FULL if any(files.named()) else None)
    if mode is None:
        return url, None
    if mode not in _MODES:
        raise ConfigurationError(f"{_VARIABLE}: sslmode is one of {', '.join(_MODES)}")
    if mode == "require" and files.ca is not None:
        # as libpq does it
        mode = "verify-ca"
    if mode in _CHECKED:
        return url, ClientTls(files, check_hostname=mode == _FULL)
    for variable, _ in files.named():
        message = f"{variable} is set, but sslmode={mode} checks nothing: use sslmode={_FULL}"
        raise ConfigurationError(message)
    unchecked: Mapping[str, Literal["disable", "allow", "prefer", "require"]] = {
        "disable": "disable",
        "allow": "allow",
        "prefer": "prefer",
        "require": "require",
    }
    return url, unchecked[mode]


def encrypt(engine: AsyncEngine, encryption: Encryption | None) -> None:
    """Let new connections of an engine use the files as they are then."""
    if encryption is None:
        return

    @event.listens_for(engine.sync_engine, "do_connect")
    def _connect(_dialect: object, _record: object, _given: object, more: dict[str, Any]) -> None:
        more["ssl"] = encryption.context() if isinstance(encryption, ClientTls) else encryption


def explain(error: Exception) -> ConfigurationError | None:
    """Return an error that says what to set, if encryption is why no connection came about."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message or str(cause)
            return ConfigurationError(
                f"{_VARIABLE}: the server's certificate is refused: {reason}; is it signed by an "
                f"authority in {PREFIX}DATABASE_CA_FILE?"
            )
        if isinstance(cause, ssl.SSLError):
            return ConfigurationError(
                f"{_VARIABLE}: no encrypted connection: {cause.reason or cause}"
            )
        if isinstance(cause, ConnectionError) and "rejected SSL upgrade" in str(cause):
            return ConfigurationError(
                f"{_VARIABLE}: the server offers no encryption, and the settings ask for it"
            )
        cause = cause.__cause__ or getattr(cause, "orig", None)
    return None


def _single(url: URL, name: str) -> str:
    value = url.query[name]
    if not isinstance(value, str):
        raise ConfigurationError(f"{_VARIABLE}: {name} is given twice")
    return value


def _with_paths(files: TlsFiles, given: Mapping[str, str]) -> TlsFiles:
    """Fill files that are not set from the URL, and name their parameters in errors."""
    if files.certificate is None and "sslcert" in given:
        files = replace(
            files,
            certificate=Path(given["sslcert"]),
            certificate_variable=f"{_VARIABLE}: sslcert",
        )
    if files.key is None and "sslkey" in given:
        files = replace(files, key=Path(given["sslkey"]), key_variable=f"{_VARIABLE}: sslkey")
    if files.ca is None and given.get("sslrootcert", "system") != "system":
        path = Path(given["sslrootcert"])
        files = replace(files, ca=path, ca_variable=f"{_VARIABLE}: sslrootcert")
    return files
