"""Which addresses a receiver may have: public ones, and the networks that its configuration allows.

The check is made on the resolved address, and the connection goes to just that address: a name that resolves otherwise
a moment later (DNS rebinding) leads nowhere else. Redirects are not followed (`send`).
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_EMBEDS_V4 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


class RefusedError(OSError):
    """An address that is not allowed."""


def allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether a connection to the address may be made.

    >>> allowed("10.1.2.3", []), allowed("10.1.2.3", [ipaddress.ip_network("10.1.0.0/16")]), allowed("8.8.8.8", [])
    (False, True, True)
    """
    found = _inner(ipaddress.ip_address(address.partition("%")[0]))
    if any(found.version == network.version and found in network for network in networks):
        return True
    if isinstance(found, ipaddress.IPv6Address) and any(found in network for network in _EMBEDS_V4):
        return False
    return found.is_global and not found.is_multicast


def check_literal(url: str, networks: Sequence[Network]) -> None:
    """An address that is written as a number never meets the resolver: look at it here.

    Raises:
        RefusedError: it is not allowed.
    """
    host = urlsplit(url).hostname or ""
    try:
        address = str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return
    if not allowed(address, networks):
        raise RefusedError(_why(host, address))


class GuardedResolver(AbstractResolver):
    """Resolves a name, and gives only addresses that are allowed."""

    def __init__(self, networks: Sequence[Network], inner: AbstractResolver | None = None) -> None:
        self._networks = networks
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The allowed addresses of `host`.

        Raises:
            RefusedError: it has others only.
        """
        found = await self._inner.resolve(host, port, family)
        good = [each for each in found if allowed(each["host"], self._networks)]
        if not good:
            raise RefusedError(_why(host, ", ".join(each["host"] for each in found)))
        return good

    async def close(self) -> None:
        """Closes the resolver."""
        await self._inner.close()


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, or itself."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)
    return address


def _why(host: str, addresses: str) -> str:
    return f"{host} is at {addresses or 'no address'}, which is not public: name its network in allow_networks"
