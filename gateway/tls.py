"""Contexts of encrypted connections from PEM files, which are read again when they change.

A certificate is renewed by replacing its files: the next connection uses the new ones. Files that
cannot be used stop the start; later they are logged once, and the last good ones stay in use.
"""

import logging
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from gateway.errors import ConfigurationError

log = logging.getLogger(__name__)

_NO_CERTIFICATE: Final = "contains no PEM certificate"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of one side of connections, with the variables that name them; None: not set."""

    certificate_variable: str
    key_variable: str
    ca_variable: str
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def named(self) -> Iterator[tuple[str, Path]]:
        """List the files that are set, with their variables."""
        variables = (self.certificate_variable, self.key_variable, self.ca_variable)
        for variable, file in zip(variables, (self.certificate, self.key, self.ca), strict=True):
            if file is not None:
                yield variable, file


NO_FILES: Final = TlsFiles("", "", "")


@dataclass(frozen=True, slots=True)
class Pem:
    """What files contain, checked; None: not set. The private key is in no `repr`."""

    certificate: bytes | None
    ca: bytes | None
    expires: Mapping[str, datetime]
    """By variable: when the file's certificate ends; of authorities the last one."""
    _key: tuple[bytes, ...] = ()

    @property
    def key(self) -> bytes | None:
        """The private key."""
        return self._key[0] if self._key else None

    def __repr__(self) -> str:
        return f"Pem(expires={dict(self.expires)})"


def read_pem(files: TlsFiles) -> Pem:
    """Read and check files.

    Raises ConfigurationError, which names the variable and the file: one of a pair is missing, a
    file cannot be read, is no PEM, has a password, has expired or belongs to another certificate.
    """
    if (files.certificate is None) != (files.key is None):
        is_set, missing = files.certificate_variable, files.key_variable
        if files.certificate is None:
            is_set, missing = missing, is_set
        raise ConfigurationError(f"{is_set} is set: set {missing}, too")
    read = {variable: _read(variable, file) for variable, file in files.named()}
    expires: dict[str, datetime] = {}
    if files.certificate is not None and files.key is not None:
        own = _certificates(files.certificate_variable, files.certificate, read)[0]
        _check_dates(files.certificate_variable, files.certificate, [own])
        expires[files.certificate_variable] = own.not_valid_after_utc
        _check_key(files, files.key, own, read[files.key_variable])
    if files.ca is not None:
        authorities = _certificates(files.ca_variable, files.ca, read)
        _check_dates(files.ca_variable, files.ca, authorities)
        last = max(each.not_valid_after_utc for each in authorities)
        expires[files.ca_variable] = last
    key = read.get(files.key_variable)
    return Pem(
        read.get(files.certificate_variable),
        read.get(files.ca_variable),
        expires,
        () if key is None else (key,),
    )


class _Tls:
    """The files of one side, read again when they change; may be used by several threads."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files; raises as `read_pem`."""
        self.files = files
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._pem = read_pem(files)
        self._context = self._make(self._pem)

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection."""
        self.refresh()
        return self._context

    def pem(self) -> Pem:
        """Return what the files contain."""
        self.refresh()
        return self._pem

    def refresh(self, *, force: bool = False) -> None:
        """Read the files if they changed, or in any case; keeps the last good ones in use."""
        with self._lock:
            signature = self._signature()
            if signature == self._seen and not force:
                return
            self._seen = signature
            try:
                pem = read_pem(self.files)
                context = self._make(pem)
            except ConfigurationError as error:
                log.error("certificates stay as they are", extra={"reason": str(error)})  # noqa: TRY400
                return
            self._pem, self._context = pem, context
        log.info("certificates were read again", extra={"files": self._names()})

    def _make(self, pem: Pem) -> ssl.SSLContext:
        raise NotImplementedError

    def _load_own(self, context: ssl.SSLContext) -> None:
        files = self.files
        if files.certificate is None or files.key is None:
            return
        try:
            # a key with a password was refused before; this one asks nobody for it
            context.load_cert_chain(files.certificate, files.key, password="")
        except (OSError, ValueError) as error:
            message = f"{files.certificate_variable}: {files.certificate}: {_reason(error)}"
            raise ConfigurationError(message) from error

    def _load_authorities(self, context: ssl.SSLContext, pem: Pem) -> None:
        if pem.ca is None:
            return
        try:
            context.load_verify_locations(cadata=pem.ca.decode("ascii"))
        except (OSError, ValueError) as error:
            message = f"{self.files.ca_variable}: {self.files.ca}: {_reason(error)}"
            raise ConfigurationError(message) from error

    def _signature(self) -> tuple[object, ...]:
        return tuple(_state(file) for _, file in self.files.named())

    def _names(self) -> list[str]:
        return [variable for variable, _ in self.files.named()]


class ServerTls(_Tls):
    """Certificates of a server; it asks clients for theirs if authorities for them are set."""

    def listening_context(self) -> ssl.SSLContext:
        """Return a context for a listener: each connection gets the files as they are then."""
        context = self._make(self.pem())

        def switch(
            connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext
        ) -> None:
            connection.context = self.context()

        # called in each handshake, whether the client names the server or not
        context.sni_callback = switch
        return context

    def _make(self, pem: Pem) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if pem.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            # a resumed session would not show its certificate again, which may be refused by now
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        self._load_authorities(context, pem)
        self._load_own(context)
        return context


class ClientTls(_Tls):
    """What checks servers: our own authorities or the system's; and the client's certificate.

    check_hostname: whether the server's name must be in its certificate.
    """

    def __init__(self, files: TlsFiles, *, check_hostname: bool = True) -> None:
        self._check_hostname = check_hostname
        super().__init__(files)

    def _make(self, pem: Pem) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self._check_hostname
        if pem.ca is None:
            context.load_default_certs()
        self._load_authorities(context, pem)
        self._load_own(context)
        return context


def _read(variable: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{variable}: {file}: {error.strerror}") from error


def _certificates(variable: str, file: Path, read: Mapping[str, bytes]) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read[variable])
    except ValueError:
        # not chained: its text may quote what it read
        raise ConfigurationError(f"{variable}: {file} {_NO_CERTIFICATE}") from None


def _check_dates(variable: str, file: Path, certificates: list[x509.Certificate]) -> None:
    """Refuse a file whose certificates are all too old, or all not valid yet."""
    now = datetime.now(UTC)
    last = max(each.not_valid_after_utc for each in certificates)
    if last <= now:
        raise ConfigurationError(f"{variable}: {file} expired on {last:%Y-%m-%d %H:%M} UTC")
    first = min(each.not_valid_before_utc for each in certificates)
    if first > now:
        raise ConfigurationError(
            f"{variable}: {file} is not valid before {first:%Y-%m-%d %H:%M} UTC; "
            "is the clock of this machine right?"
        )


def _check_key(files: TlsFiles, file: Path, certificate: x509.Certificate, pem: bytes) -> None:
    variable = files.key_variable
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        message = f"{variable}: {file} has a password, which nobody could enter; remove it"
        raise ConfigurationError(message) from None
    except ValueError:
        # not chained: its text may quote what it read
        raise ConfigurationError(f"{variable}: {file} contains no PEM private key") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ConfigurationError(
            f"{variable}: {file} does not belong to the certificate in {files.certificate}"
        )


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error)
    return getattr(error, "strerror", None) or str(error)
