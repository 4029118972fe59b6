"""The routes of this host to other machines, by the kernel's own tables."""

from __future__ import annotations

from pathlib import Path

_IPV4 = Path("/proc/net/route")
_IPV6 = Path("/proc/net/ipv6_route")
# Link-local and multicast addresses, which every interface has that is up: they lead to no mirror.
_NEAR = ("fe80", "ff00")


def has_route() -> bool:
    """Whether there is a route that leads off this host, without which no other can be reached.

    True where that can't be known. It saves an unconnected host the second that mmdebstrap takes to find out.
    """
    try:
        ipv4 = [line.split()[0] for line in _IPV4.read_text().splitlines()[1:] if line.strip()]
        # Networks begin each line with their address, and the interface ends it.
        ipv6 = [line.split() for line in _IPV6.read_text().splitlines()] if _IPV6.exists() else []
    except (OSError, IndexError):
        return True
    far = [fields for fields in ipv6 if fields and fields[-1] != "lo" and fields[0][:4] not in _NEAR]
    return any(interface != "lo" for interface in ipv4) or bool(far)
