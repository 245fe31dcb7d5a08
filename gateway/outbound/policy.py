"""Which addresses may be connected to, by who chose the host."""

from collections.abc import Sequence
from typing import Protocol

from gateway.outbound.addresses import Address, Network, Reach, reach_of, read_address


class AddressPolicy(Protocol):
    """Decides about addresses."""

    def allows(self, host: str, address: Address) -> bool:
        """Whether a connection to `address` may be opened for a URL with this host."""
        ...


class CallersHosts:
    """Hosts that a caller chose: public ones, and those in networks that the operator lists.

    What the table never allows is not allowed by a list either.
    """

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    def allows(self, host: str, address: Address) -> bool:
        """See `AddressPolicy.allows`."""
        reach = reach_of(address)
        if reach is Reach.PRIVATE:
            return any(address in network for network in self._networks)
        return reach is Reach.PUBLIC


class OperatorsHosts:
    """Hosts that the operator chose by name: private ones, too.

    This machine is meant only where the host says so: a name elsewhere whose address changes to
    127.0.0.1 leads nowhere, like one that changes to a cloud's metadata.
    """

    def allows(self, host: str, address: Address) -> bool:
        """See `AddressPolicy.allows`."""
        reach = reach_of(address)
        if reach is Reach.LOOPBACK:
            return is_this_machine(host)
        return reach in (Reach.PUBLIC, Reach.PRIVATE)


def is_this_machine(host: str) -> bool:
    """Whether a host of a URL is `localhost` or a loopback address."""
    if host.lower() == "localhost":
        return True
    address = read_address(host.strip("[]"))
    return address is not None and reach_of(address) is Reach.LOOPBACK
