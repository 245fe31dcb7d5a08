"""Clients that are opened anew when their certificates change."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.renewed_client import RenewedClient
from gateway.tls import NO_FILES, Pem, TlsFiles
from tests.support.certificates import Authority


class Client:
    def __init__(self, pem: Pem) -> None:
        self.pem = pem
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True


def renewed(files: TlsFiles, *, retired_seconds: float = 60) -> RenewedClient[Client]:
    return RenewedClient(
        files, Client, lambda client: client.close(), retired_seconds=retired_seconds
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_new_client_follows_new_files_and_the_old_one_ends_later(
    authority: Authority,
) -> None:
    own = authority.issue("me", name="own")
    clients = renewed(TlsFiles("C", "K", "A", own.certificate, own.key, authority.file))
    first = clients.now()
    assert clients.now() is first
    authority.issue("me", name="own")
    second = clients.now()
    assert second is not first
    assert second.pem.certificate not in (None, first.pem.certificate)
    assert clients.now() is second
    await asyncio.sleep(0)
    # calls on it go on
    assert not first.is_closed
    # files that cannot be used change nothing
    own.key.write_text("no key")
    assert clients.now() is second
    await clients.close()
    assert first.is_closed
    assert second.is_closed


async def test_the_client_before_is_closed_after_a_while(authority: Authority) -> None:
    own = authority.issue("me", name="own")
    files = TlsFiles("C", "K", "A", own.certificate, own.key, authority.file)
    clients = renewed(files, retired_seconds=0.01)
    first = clients.now()
    authority.issue("me", name="own")
    second = clients.now()
    async with asyncio.timeout(5):
        while not first.is_closed:
            await asyncio.sleep(0.01)
    assert not second.is_closed
    await clients.close()


async def test_without_files_there_is_one_client() -> None:
    clients = renewed(NO_FILES)
    assert clients.now() is clients.now()
    assert clients.now().pem.ca is None
    await clients.close()


async def test_files_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        renewed(TlsFiles("C", "K", "A", None, None, tmp_path / "none.pem"))
