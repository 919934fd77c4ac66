"""Which requests of browsers and programs are let in: this server's own pages, programs, and names it knows."""

import socket
import warnings

import pytest
from starlette.requests import Request

from pipelines.serving.http.errors import Refusal
from pipelines.serving.http.origin import Visitors
from pipelines.serving.server import application
from tests.toy_model import export, running

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

LOOPBACK = Visitors()
NAMED = Visitors("127.0.0.1", ["Lab.Example.org"])
BOUND = Visitors("192.0.2.7")
EVERYWHERE = Visitors("0.0.0.0", ["lab.example.org"])
HERE = ("host", "localhost:8501")


def status(visitors, *headers, method="POST", path="/predict"):
    """What a request with these headers gets; 200: it is let in."""
    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "scheme": "http", "headers": raw}
    try:
        visitors.check(Request(scope))
    except Refusal as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize(
    ("visitors", "host", "expected"),
    [
        (LOOPBACK, "localhost", 200),
        (LOOPBACK, "LOCALHOST.:9000", 200),  # a forwarded port has another number
        (LOOPBACK, "127.0.0.1:8501", 200),
        (LOOPBACK, "127.8.9.1:8501", 200),
        (LOOPBACK, "[::1]:8501", 200),
        (LOOPBACK, "evil.example:8501", 421),
        (LOOPBACK, "localhost.evil.example", 421),
        (LOOPBACK, "localhost@evil.example", 421),
        (LOOPBACK, "127.0.0.1.evil.example", 421),
        (LOOPBACK, "0.0.0.0:8501", 421),
        (LOOPBACK, "192.0.2.7:8501", 421),
        (LOOPBACK, "[::1", 200),
        (LOOPBACK, "", 400),
        (LOOPBACK, ":8501", 400),
        (NAMED, "lab.example.org", 200),
        (NAMED, "www.lab.example.org", 421),
        (BOUND, "192.0.2.7:8501", 200),
        (BOUND, "[2001:db8::1]:8501", 200),
        (BOUND, "localhost:8501", 200),
        (BOUND, "evil.example", 421),
        (EVERYWHERE, "198.51.100.4:8501", 200),
        (EVERYWHERE, f"{socket.gethostname()}:8501", 200),
        (EVERYWHERE, "lab.example.org:8501", 200),
        (EVERYWHERE, "evil.example:8501", 421),
    ],
)
def test_a_name_that_the_server_does_not_have_is_misdirected(visitors, host, expected):
    assert status(visitors, ("host", host)) == expected


def test_there_must_be_one_host():
    assert status(LOOPBACK) == 400
    assert status(LOOPBACK, HERE, ("host", "evil.example")) == 400


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://localhost:8501", "localhost:8501", 200),
        ("http://LOCALHOST:8501", "localhost:8501", 200),
        ("http://[::1]:8501", "[::1]:8501", 200),
        ("http://localhost", "localhost", 200),
        ("http://localhost", "localhost:80", 200),
        ("https://localhost", "localhost", 200),  # a proxy in front speaks TLS
        ("https://localhost", "localhost:443", 200),
        ("http://localhost:3000", "localhost:8501", 403),
        ("http://127.0.0.1:8501", "localhost:8501", 403),
        ("http://evil.example", "localhost:8501", 403),
        ("http://localhost:8501.evil.example", "localhost:8501", 403),
        ("http://localhost:8501@evil.example", "localhost:8501", 403),
        ("https://localhost", "localhost:80", 403),
        ("null", "localhost:8501", 403),
        ("", "localhost:8501", 403),
        ("file://", "localhost:8501", 403),
    ],
)
def test_only_pages_of_the_server_itself_may_ask(origin, host, expected):
    assert status(LOOPBACK, ("host", host), ("origin", origin)) == expected


def test_one_own_origin_does_not_hide_a_foreign_one():
    own = ("origin", "http://localhost:8501")
    assert status(LOOPBACK, HERE, own, own) == 200
    assert status(LOOPBACK, HERE, own, ("origin", "http://evil.example")) == 403


@pytest.mark.parametrize(
    ("site", "expected"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403), ("", 403)]
)
def test_a_browser_says_whether_another_site_asks(site, expected):
    assert status(LOOPBACK, HERE, ("sec-fetch-site", site)) == expected
    assert status(LOOPBACK, HERE, ("sec-fetch-site", site), method="GET", path="/") == expected


def test_a_link_from_another_site_leads_to_the_page_and_to_nothing_else():
    visit = [HERE, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    assert status(LOOPBACK, *visit, method="GET", path="/") == 200
    assert status(LOOPBACK, *visit, method="GET", path="/faces/people") == 403
    assert status(LOOPBACK, *visit, method="POST", path="/") == 403
    framed = [*visit[:3], ("sec-fetch-dest", "iframe")]
    assert status(LOOPBACK, *framed, method="GET", path="/") == 403


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models") / "toy" / "1")


def test_the_refusal_comes_before_anything_is_done_and_says_what_helps(folder):
    with TestClient(application(folder, visitors=LOOPBACK), base_url="http://localhost:8501") as client:
        assert client.get("/").is_success
        assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]
        for path in ("/", "/healthz", "/metrics", "/v1/models/toy", "/nothing"):
            answer = client.get(path, headers={"host": "evil.example"})
            assert answer.status_code == 421
            assert answer.json() == {
                "error": "Host must be a name of this server, got evil.example; --allow-host adds one"
            }
        answer = client.post("/v1/models/toy:predict", content="{}", headers={"origin": "http://evil.example"})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        preflight = client.options("/predict", headers={"origin": "http://evil.example"})
        assert preflight.status_code == 403


def test_a_served_model_knows_its_own_names(folder):
    with running(folder) as (_, url):
        place = url.removeprefix("http://")
        answers = {}
        for host in (place, "evil.example", "localhost"):
            with socket.create_connection(tuple(place.split(":")), timeout=30) as connection:
                connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                answers[host] = connection.recv(65536)[:12]
        assert answers == {place: b"HTTP/1.1 200", "evil.example": b"HTTP/1.1 421", "localhost": b"HTTP/1.1 200"}
