"""The address that a role listens at: on the loopback, unless another is asked for."""

import ipaddress
import socket

import psutil

LOOPBACK = "127.0.0.1"


class AddressError(ValueError):
    """A host has no such address, or several."""


def check_listen(listen: str) -> None:
    """Refuse what is neither an IPv4 address nor a network.

    Raises:
        AddressError: If it is.
    """
    _network(listen)


def is_loopback(listen: str) -> bool:
    """Whether only programs of the same host reach what listens there."""
    return _network(listen).is_loopback


def address_in(listen: str) -> str:
    """The address that this host has there.

    Args:
        listen: An IPv4 address, taken as it is; or a network, as 10.1.0.0/16, of which this host has one.

    Raises:
        AddressError: If this host has none in the network, or more than one.
    """
    network = _network(listen)
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    own = sorted(
        one.address
        for every in psutil.net_if_addrs().values()
        for one in every
        if one.family is socket.AF_INET and ipaddress.IPv4Address(one.address) in network
    )
    if len(own) != 1:
        raise AddressError(f"this host must have one address in {listen}, it has {', '.join(own) or 'none'}")
    return own[0]


def _network(listen: str) -> ipaddress.IPv4Network:
    try:
        return ipaddress.IPv4Network(listen)
    except ValueError:
        raise AddressError(f"listen must be an IPv4 address or network, got {listen!r}") from None
