"""Which addresses belong to whom: the table that decides what may be connected to.

The table is our own, from IANA's registries of special-purpose addresses and the addresses where
clouds answer with the credentials of a machine. Python's `is_global` calls several of them global.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Reach(StrEnum):
    """Who can be reached under an address."""

    PUBLIC = "public"
    """A host of the internet."""
    PRIVATE = "private"
    """A host of the network that this service runs in."""
    LOOPBACK = "loopback"
    """This machine."""
    NEVER = "never"
    """Nobody to whom this service has anything to say."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """A row of the table."""

    network: Network
    reach: Reach
    what: str


def _rows(text: str) -> tuple[Prefix, ...]:
    rows = []
    for line in text.strip().splitlines():
        network, reach, what = line.split(maxsplit=2)
        rows.append(Prefix(ip_network(network), Reach(reach), what))
    return tuple(rows)


PREFIXES: Final = _rows(
    """
    0.0.0.0/8          never     this network
    10.0.0.0/8         private   private
    100.64.0.0/10      private   shared by customers of a provider (CGNAT)
    127.0.0.0/8        loopback  loopback
    169.254.0.0/16     never     link-local, metadata of most clouds
    172.16.0.0/12      private   private
    192.0.0.0/24       never     protocol assignments, metadata of Oracle
    192.0.2.0/24       never     documentation
    192.31.196.0/24    never     AS112
    192.52.193.0/24    never     AMT
    192.88.99.0/24     never     6to4 relays
    192.168.0.0/16     private   private
    192.175.48.0/24    never     AS112
    198.18.0.0/15      never     benchmarks
    198.51.100.0/24    never     documentation
    203.0.113.0/24     never     documentation
    224.0.0.0/4        never     multicast
    240.0.0.0/4        never     reserved, broadcast
    100.100.100.200/32 never     metadata of Alibaba
    168.63.129.16/32   never     metadata of Azure
    ::/96              never     unspecified, IPv4-compatible
    ::1/128            loopback  loopback
    ::ffff:0:0/96      never     IPv4-mapped
    ::ffff:0:0:0/96    never     IPv4-translated
    64:ff9b::/96       never     NAT64
    64:ff9b:1::/48     never     NAT64 of a network's own
    100::/64           never     discard
    100:0:0:1::/64     never     dummy prefix
    2001::/23          never     Teredo, ORCHID, benchmarks and other protocols
    2001:db8::/32      never     documentation
    2002::/16          never     6to4
    2620:4f:8000::/48  never     AS112
    3ffe::/16          never     6bone
    3fff::/20          never     documentation
    5f00::/16          never     segment routing
    fc00::/7           private   unique local
    fd00:ec2::254/128  never     metadata of AWS
    fd20:ce::254/128   never     metadata of Google
    fe80::/10          never     link-local
    fec0::/10          never     site-local
    ff00::/8           never     multicast
    """
)
"""The most specific row decides. What no row has is public; of IPv6 only what lies in 2000::/3."""

_UNICAST: Final = IPv6Network("2000::/3")
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""Middle of an IPv6 address whose last four bytes are the IPv4 address of a tunnel's end."""
_LAST_32_BITS: Final = 0xFFFF_FFFF


def reach_of(address: Address) -> Reach:
    """Say who is reached under an address.

    Prefixes of IPv6 that contain an IPv4 address are never connected to, whatever that address is;
    an address that names the end of a tunnel in its middle is judged by that end.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return Reach.NEVER
        middle = (int(address) >> 32) & _LAST_32_BITS
        if middle in _ISATAP and reach_of(_embedded(address)) is not Reach.PUBLIC:
            return Reach.NEVER
    rows = [row for row in PREFIXES if address in row.network]
    if rows:
        return max(rows, key=lambda row: row.network.prefixlen).reach
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return Reach.NEVER
    return Reach.PUBLIC


def read_address(text: str) -> Address | None:
    """Read an address as the system writes it; None for anything else."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def is_private_network(network: Network) -> bool:
    """Whether all of a network lies in a private one."""
    return any(
        row.reach is Reach.PRIVATE
        and row.network.version == network.version
        and int(row.network.network_address) <= int(network.network_address)
        and int(network.broadcast_address) <= int(row.network.broadcast_address)
        for row in PREFIXES
    )


def _embedded(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & _LAST_32_BITS)
