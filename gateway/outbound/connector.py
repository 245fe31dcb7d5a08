"""Opens connections only to addresses that were checked.

A name is resolved once, by us; every address of the answer is checked, and the connection goes to
one of these addresses. With TLS the name itself stays what the certificate is compared with.
"""

import socket
from collections.abc import Coroutine
from typing import Any, Final

from aiohttp import (
    ClientConnectionError,
    ClientRequest,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from gateway.outbound.addresses import read_address
from gateway.outbound.lookup import Lookup, SystemLookup
from gateway.outbound.policy import AddressPolicy

_MOST_ADDRESSES: Final = 8
"""Addresses of a name that are tried."""
_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class RefusedAddressError(ClientConnectionError):
    """A host that may not be connected to, or that has no address; nobody learns which of both."""


class LookupFailedError(ClientConnectionError):
    """The name servers do not answer."""


class CheckedResolver(AbstractResolver):
    """Resolves names whose addresses are all allowed."""

    def __init__(self, policy: AddressPolicy, lookup: Lookup) -> None:
        self._policy = policy
        self._lookup = lookup

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return addresses; raises RefusedAddressError if one of them is not allowed.

        Also for a name without an address: a caller must not learn which names a private network
        has. Raises LookupFailedError if the name servers do not answer.
        """
        try:
            found = await self._lookup.addresses(host)
        except OSError as error:
            raise LookupFailedError("the name servers do not answer") from error
        results = [self._result(host, port, text) for text in dict.fromkeys(found)]
        if not results:
            raise RefusedAddressError("no address")
        wanted = [each for each in results if family in (socket.AF_UNSPEC, each["family"])]
        return wanted[:_MOST_ADDRESSES]

    async def close(self) -> None:
        """Stop asking."""
        self._lookup.close()

    def _result(self, host: str, port: int, text: str) -> ResolveResult:
        address = read_address(text)
        if address is None or not self._policy.allows(host, address):
            raise RefusedAddressError("an address that is not allowed")
        return ResolveResult(
            hostname=host,
            host=text,
            port=port,
            family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
            proto=0,
            flags=_NUMERIC,
        )


class CheckedConnector(TCPConnector):
    """Connects to checked addresses, and looks once more where an open socket leads."""

    def __init__(self, policy: AddressPolicy, lookup: Lookup, *, limit: int) -> None:
        """Open at most `limit` connections at a time."""
        super().__init__(
            resolver=CheckedResolver(policy, lookup),
            # an answer is used once: for the host that it was checked for
            use_dns_cache=False,
            force_close=True,
            limit=limit,
        )
        self._policy = policy
        self._lookup = lookup

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109
    ) -> Connection:
        """Open a connection; raises RefusedAddressError if the address is not allowed."""
        host = req.url.raw_host or ""
        literal = read_address(host)
        if literal is not None and not self._policy.allows(host, literal):
            raise RefusedAddressError("an address that is not allowed")
        connection = await super().connect(req, traces, timeout)
        peer = connection.transport and connection.transport.get_extra_info("peername")
        address = read_address(peer[0]) if peer else None
        if address is None or not self._policy.allows(host, address):
            # before a byte of the request is sent
            connection.close()
            raise RefusedAddressError("an address that is not allowed")
        return connection

    def close(self, *, abort_ssl: bool = False) -> Coroutine[Any, Any, None]:
        """Close all connections, and stop asking for names."""
        self._lookup.close()
        return super().close(abort_ssl=abort_ssl)


def open_session(
    policy: AddressPolicy, *, at_once: int, lookup: Lookup | None = None
) -> ClientSession:
    """Open a client within the running loop; use it in `async with`.

    It keeps no cookies and no connections, knows no proxy, no `.netrc` and no credentials, unpacks
    nothing and sets no time limit of its own.
    """
    return ClientSession(
        connector=CheckedConnector(policy, lookup or SystemLookup(), limit=at_once),
        cookie_jar=DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=ClientTimeout(total=None),
    )
