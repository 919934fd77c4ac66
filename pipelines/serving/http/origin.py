"""Who may ask: pages of this server itself and programs, under names that this server has.

A browser sends requests to any address on behalf of any page. `Origin` and `Sec-Fetch-Site` say which page it was; a
program sends neither. A page whose own name was bound to this machine's address afterwards (DNS rebinding) looks like
the server's own: only the name in `Host` gives it away. Addresses in numbers cannot be rebound.
"""

import ipaddress
import socket
from collections.abc import Sequence

from starlette.requests import Request

from pipelines.serving.http.errors import Refusal

HERE = frozenset({"localhost"})
EVERYWHERE = ("0.0.0.0", "::", "")
OWN = ("same-origin", "none")  # none: typed by the user


class Visitors:
    """The names of a server, and the check of every request against them."""

    def __init__(self, host: str = "127.0.0.1", names: Sequence[str] = ()) -> None:
        """`host` is what the server is bound to, `names` are further ones it is reached by."""
        self._loopback = is_loopback(host)
        own = () if self._loopback or host not in EVERYWHERE else (socket.gethostname(), socket.getfqdn())
        self._names = HERE | {name.strip("[]").rstrip(".").lower() for name in (host, *own, *names)}

    def check(self, request: Request) -> None:
        """Let only this server's own pages and programs pass.

        Raises:
            Refusal: 400 without a host, 421 for another server's name, 403 for another site's page.
        """
        headers = request.headers
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not (name := _name(hosts[0])):
            raise Refusal(400, "the request must have one header Host")
        if not self._is_own(name):
            raise Refusal(421, f"Host must be a name of this server, got {name[:100]}; --allow-host adds one")
        foreign = any(not _is_same(origin, hosts[0]) for origin in headers.getlist("origin"))
        if foreign or (headers.get("sec-fetch-site", "none") not in OWN and not _is_visit(request)):
            raise Refusal(403, "pages of other sites must not send requests to this server")

    def _is_own(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_visit(request: Request) -> bool:
    """Whether somebody followed a link to the page: it is shown, but the other site cannot read it or frame it."""
    headers = request.headers
    request_kind = (request.method, request.url.path, headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
    return request_kind == ("GET", "/", "navigate", "document")


def _is_same(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from `host`, by whichever scheme: a proxy in front may have another."""
    scheme, _, place = origin.partition("://")
    standard = {"http": "80", "https": "443"}.get(scheme.lower(), "")
    return bool(_name(place)) and (_name(place), _port(place) or standard) == (_name(host), _port(host) or standard)


def _name(host: str) -> str:
    """`::1` of `[::1]:8501`, `localhost` of `LOCALHOST.:8501`."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.rstrip(".").lower()


def _port(host: str) -> str:
    return host.rpartition("]")[2].partition(":")[2]
