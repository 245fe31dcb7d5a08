import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from prometheus_client import CollectorRegistry

from gateway.errors import ConfigurationError
from gateway.monitoring.certificates import note_certificates
from gateway.settings import Settings
from gateway.telemetry.tls_metrics import TlsMetrics
from gateway.tls import ClientTls, ServerTls, TlsFiles, read_pem
from gateway.tls_files import check_gateway_files, open_server_tls
from tests.support.certificates import Authority

NOW = datetime.now(UTC)


def files(certificate: Path | None = None, key: Path | None = None, ca: Path | None = None):
    return TlsFiles("MY_CERTIFICATE", "MY_KEY", "MY_CA", certificate, key, ca)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def encrypted(key: Path) -> Path:
    found = load_pem_private_key(key.read_bytes(), None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a-password"))
    key.write_bytes(found.private_bytes(*form))
    return key


def test_unusable_files_are_named_with_their_variable(authority, tmp_path):
    own = authority.issue("localhost")
    other = authority.issue("localhost", name="other")
    old = authority.issue(
        "localhost", name="old", not_before=NOW - timedelta(9), not_after=NOW - timedelta(1)
    )
    young = authority.issue("localhost", name="young", not_before=NOW + timedelta(1))
    text = tmp_path / "text"
    text.write_text("not a certificate")
    locked = encrypted(authority.issue("localhost", name="locked").key)
    cases = [
        (files(own.certificate), "MY_CERTIFICATE is set: set MY_KEY, too"),
        (files(key=own.key), "MY_KEY is set: set MY_CERTIFICATE, too"),
        (files(tmp_path / "none", own.key), "MY_CERTIFICATE: .*none: No such file"),
        (files(own.certificate, tmp_path), "MY_KEY: .*: Is a directory"),
        (files(text, own.key), "MY_CERTIFICATE: .*text contains no PEM certificate"),
        (files(own.certificate, text), "MY_KEY: .*text contains no PEM private key"),
        (files(own.certificate, other.key), "MY_KEY: .*other.key does not belong to .*server.pem"),
        (files(own.certificate, locked), "MY_KEY: .*locked.key has a password"),
        (files(old.certificate, old.key), "MY_CERTIFICATE: .*old.pem expired on 20"),
        (files(young.certificate, young.key), "MY_CERTIFICATE: .*is not valid before 20"),
        (files(ca=text), "MY_CA: .*text contains no PEM certificate"),
    ]
    for given, expected in cases:
        with pytest.raises(ConfigurationError, match=expected):
            read_pem(given)


def test_a_key_is_in_no_text(authority):
    own = authority.issue("localhost")
    pem = read_pem(files(own.certificate, own.key))
    assert pem.key == own.key.read_bytes()
    assert "PRIVATE" not in f"{pem} {pem!r}"


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """Connect; returns the serial number that the server shows. Raises what either side raises."""
    ours, theirs = socket.socketpair()
    failures: list[OSError] = []

    def serve() -> None:
        try:
            with server.wrap_socket(theirs, server_side=True) as secured:
                secured.sendall(secured.recv(4))
        except OSError as error:
            failures.append(error)
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname="localhost") as secured:
            secured.sendall(b"ping")
            assert secured.recv(4) == b"ping"
            shown = secured.getpeercert()
            return str(shown["serialNumber"] if shown else "")
    finally:
        thread.join(60)


def test_a_renewed_certificate_is_used_by_the_next_connection(authority, caplog):
    own = authority.issue("localhost")
    server = ServerTls(files(own.certificate, own.key))
    listening = server.listening_context()
    client = ClientTls(files(ca=authority.file))
    for context in (listening, server.context(), client.context()):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    first = shake_hands(listening, client.context())
    assert shake_hands(listening, client.context()) == first
    # between the two writes of a renewal, the old ones stay in use; it is said once
    half = own.certificate.read_bytes()
    authority.issue("localhost")
    renewed = own.certificate.read_bytes()
    own.certificate.write_bytes(half)
    assert shake_hands(listening, client.context()) == first
    assert shake_hands(listening, client.context()) == first
    said = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(said) == 1
    own.certificate.write_bytes(renewed)
    assert shake_hands(listening, client.context()) != first


def test_clients_need_a_certificate_of_the_authority_as_it_is_now(authority, tmp_path):
    own, mine = authority.issue("localhost"), authority.issue("me", name="mine")
    callers = Authority(tmp_path, "callers")
    theirs = callers.issue("caller", name="caller")
    server = ServerTls(files(own.certificate, own.key, callers.file)).listening_context()
    known = ClientTls(files(theirs.certificate, theirs.key, authority.file)).context()
    assert shake_hands(server, known)
    for stranger in (files(mine.certificate, mine.key, authority.file), files(ca=authority.file)):
        with pytest.raises(OSError, match=r"(?i)alert|eof|reset|closed"):
            shake_hands(server, ClientTls(stranger).context())
    # an authority that is replaced is not trusted any more
    Authority(tmp_path, "callers")
    with pytest.raises(OSError, match=r"(?i)alert|eof|reset|closed"):
        shake_hands(server, known)


def test_a_server_of_another_authority_or_name_is_refused(authority, tmp_path):
    own = authority.issue("localhost")
    server = ServerTls(files(own.certificate, own.key)).listening_context()
    other = Authority(tmp_path, "other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server, ClientTls(files(ca=other.file)).context())
    elsewhere = authority.issue("elsewhere")
    server = ServerTls(files(elsewhere.certificate, elsewhere.key)).listening_context()
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(server, ClientTls(files(ca=authority.file)).context())
    assert shake_hands(server, ClientTls(files(ca=authority.file), check_hostname=False).context())


def test_the_settings_must_fit_together(authority):
    own = authority.issue("localhost")
    with pytest.raises(ConfigurationError, match="set AURUM_TLS_CERTIFICATE_FILE, too"):
        open_server_tls(Settings(tls_client_ca_file=authority.file))
    assert open_server_tls(Settings()) is None
    settings = Settings(
        tls_certificate_file=own.certificate,
        tls_key_file=own.key,
        tls_client_ca_file=authority.file,
    )
    with pytest.raises(ConfigurationError, match="set AURUM_GATEWAY_CLIENT_CERTIFICATE_FILE"):
        check_gateway_files(settings)


def test_the_end_of_certificates_is_exported_and_warned_of(authority, caplog):
    soon = authority.issue("localhost", name="soon", not_after=NOW + timedelta(13))
    later = authority.issue("localhost", name="later", not_after=NOW + timedelta(15))
    registry = CollectorRegistry()
    settings = Settings(
        tls_certificate_file=soon.certificate,
        tls_key_file=soon.key,
        redis_certificate_file=later.certificate,
        redis_key_file=later.key,
    )
    note_certificates(settings, TlsMetrics(registry))
    name = "aurum_certificate_expiry_timestamp_seconds"
    ends = {
        each: registry.get_sample_value(name, {"setting": f"AURUM_{each}_CERTIFICATE_FILE"})
        for each in ("TLS", "REDIS", "QDRANT")
    }
    assert ends["TLS"] == pytest.approx((NOW + timedelta(13)).timestamp(), abs=2)
    assert ends["REDIS"] == pytest.approx((NOW + timedelta(15)).timestamp(), abs=2)
    assert ends["QDRANT"] is None
    warned = [record.setting for record in caplog.records if record.levelname == "WARNING"]
    assert warned == ["AURUM_TLS_CERTIFICATE_FILE"]
