"""Connections of clients that are slow, greedy or gone: closed within the limits, and the others hardly notice."""

import contextlib
import json
import socket
import time

import httpx
import psutil
import pytest

from tests.pipelines.serving.http.test_hostile_requests import GOOD, PREDICT, assert_refused
from tests.toy_model import export, running

LIMITS = {
    "head_seconds": 1.0,
    "read_seconds": 1.5,
    "answer_seconds": 5.0,
    "connections": 40,
    "chunks": 50,
    "values": 100_000,
}
PATIENCE = 20  # seconds until a test gives up; the limits are far below


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = export(tmp_path_factory.mktemp("models") / "toy" / "1")
    with running(folder, **LIMITS) as (process, url), httpx.Client(base_url=url, timeout=30) as client:
        yield psutil.Process(process.pid), url, client


def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def rest(connection):
    """All that the server says until it closes `connection`."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def answered(url, data):
    """All that the server says to `data` until it closes the connection."""
    with connected(url) as connection:
        with contextlib.suppress(ConnectionError):  # closed while we were still sending
            connection.sendall(data)
        return rest(connection)


def head(*lines, method="POST", path=PREDICT):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def test_what_never_becomes_a_request_is_closed(server):
    expected = {
        b"": b"",
        b"POST /v1/mod": b"HTTP/1.1 408",
        head()[:-4]: b"HTTP/1.1 408",
        head(method="GET", path="/healthz") + b"GET /heal": b"HTTP/1.1 200",
        head("Content-Length: 100") + b"{": b"HTTP/1.1 408",
        head("Transfer-Encoding: chunked") + b"1\r\n{\r\n": b"HTTP/1.1 408",
        head("Content-Length: 99", path="/nothing"): b"HTTP/1.1 404",  # answered, and the body never comes
    }
    with contextlib.ExitStack() as stack:  # all of them wait at the same time
        waiting = {data: stack.enter_context(connected(server[1])) for data in expected}
        for data, connection in waiting.items():
            connection.sendall(data)
        assert {data: rest(connection)[:12] for data, connection in waiting.items()} == expected


def test_clients_that_go_on_a_byte_at_a_time_get_no_more_time(server):
    beginnings = [head()[:-4] + b"\r\nX: ", head("Content-Length: 100"), head("Content-Length: 100", path="/nothing")]
    with contextlib.ExitStack() as stack:
        open_ = [stack.enter_context(connected(server[1])) for _ in beginnings]
        for connection, beginning in zip(open_, beginnings, strict=True):
            connection.sendall(beginning)
            connection.settimeout(0.1)
        deadline = time.monotonic() + PATIENCE
        while open_ and time.monotonic() < deadline:
            open_ = [connection for connection in open_ if takes_a_byte(connection)]
        assert not open_


def takes_a_byte(connection):
    """Send one byte; False once the server has closed `connection`."""
    try:
        connection.sendall(b"y")
        return bool(connection.recv(65536))
    except TimeoutError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(f"X: {'y' * 40_000}"), 431),
        (head(f"X: {'y' * 40_000}")[:-4], 431),
        (head(path=f"/{'y' * 40_000}"), 431),
        (head(*[f"X{number}: y" for number in range(101)]), 431),
        (head("Transfer-Encoding: chunked") + b"1\r\n \r\n" * 60 + b"0\r\n\r\n", 413),
        (head(method="GET", path="/healthz") * 20, None),  # too many sent ahead: closed without a word
        (head("Content-Length: x"), 400),
        (head("Content-Length: 3", "Transfer-Encoding: chunked"), 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nNo colon here\r\n\r\n", 400),
    ],
)
def test_a_head_beyond_its_bounds_is_refused_in_json_and_closed(server, data, status):
    answer = answered(server[1], data)
    assert answer[:12] == (f"HTTP/1.1 {status}".encode() if status else b"")
    assert status is None or json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]
    assert_refused(server[2], {"content": "{"}, 400)


def test_headers_behind_a_body_in_chunks_are_not_kept(server):
    body = GOOD.encode()
    chunked = b"%x\r\n%s\r\n0\r\n" % (len(body), body)
    request = head("Transfer-Encoding: chunked", "Connection: close") + chunked
    assert b'"label":"dark"' in answered(server[1], request + b"Host: evil.example\r\n\r\n")
    before = server[0].memory_info().rss
    answered(server[1], request + b"X: " + b"y" * 20_000_000)
    assert server[0].memory_info().rss - before < 5 * 2**20


def test_a_few_requests_may_be_sent_ahead(server):
    last = head("Connection: close", method="GET", path="/healthz")
    answers = answered(server[1], head(method="GET", path="/healthz") * 7 + last)
    assert answers.count(b"HTTP/1.1 200") == 8


def test_beyond_the_limit_who_has_waited_longest_makes_room(server):
    silent = [connected(server[1]) for _ in range(60)]
    try:
        assert_refused(server[2], {"content": "{"}, 400)
        open_ = [each for each in server[0].net_connections() if each.status == psutil.CONN_ESTABLISHED]
        assert len(open_) <= LIMITS["connections"]
        assert silent[0].recv(1) == b""
    finally:
        for connection in silent:
            connection.close()


def test_slow_clients_do_not_keep_others_out(server):
    slow = [connected(server[1]) for _ in range(200)]
    try:
        for connection in slow[:100]:
            connection.sendall(b"POST / HT")
        for connection in slow[-15:]:
            connection.sendall(head("Content-Length: 100") + b"{")
        assert server[2].post(PREDICT, content=GOOD).is_success
        deadline = time.monotonic() + PATIENCE
        while len(server[0].net_connections()) > 3 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(server[0].net_connections()) <= 3  # that which listens, ours, and one that has just gone
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize(
    "content",
    ['{"instances": [' + "0," * 100_000 + "0]}", '{"instances": ' + "[" * 100_001, "{" + '"a":1,' * 7_000 + '"b":1}'],
)
def test_json_of_very_many_values_is_refused_before_it_is_read(server, content):
    assert_refused(server[2], {"content": content}, 413)
