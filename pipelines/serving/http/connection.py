"""A client's connection: how long and how large what comes before, between and after its requests may be.

uvicorn waits for a request's head as long as the client likes, takes one of any length, and any number of requests at
once. Bodies and answers are bounded elsewhere (`request_body`, `routes`).
"""

import json
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pipelines.serving.http.limits import Limits


class Connection(HttpToolsProtocol):
    """uvicorn's protocol within `limits`; `sweep` must be called about once a second."""

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._since = self.loop.time()  # it waits for a request, or works on one
        self._in_head = True
        self._framing = 0  # bytes received that are not of a body, since the last that was told by the parser
        self._chunks = 0
        self._refusal = (400, "the request must be well-formed HTTP")

    @property
    def _working(self) -> bool:
        """Whether a request has come that is not answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def _make_room(self) -> None:
        """Close the connection that has waited for its client the longest, first of those that never asked anything."""
        waiting = [each for each in self.connections if not each._working or each.cycle.more_body]  # type: ignore
        oldest = min(waiting, key=lambda each: (each.cycle is not None, each._since), default=self)  # type: ignore
        self.connections.discard(oldest)
        oldest.transport.abort()

    def sweep(self, now: float) -> None:
        """Close the connection if its client takes too long."""
        limits, late = self._limits, now - self._since
        if self._working:
            if late > limits.head_seconds + limits.read_seconds + limits.answer_seconds:  # nobody fetches the answer
                self.transport.abort()
        elif self.transport.is_closing():
            if late > limits.head_seconds + limits.read_seconds:
                self.transport.abort()
        elif late > limits.head_seconds:
            if self._in_head and self._framing > 0:
                self._refuse(408, f"the head of a request must arrive within {limits.head_seconds:g} seconds")
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        in_head = self._in_head
        self._framing += len(data)
        super().data_received(data)
        other = 0 if in_head and self._in_head else len(data)  # the parser does not say how much of it is another's
        if self._framing > self._limits.head + other and not self.transport.is_closing():
            self._refuse(431, f"the head of a request must have {self._limits.head:,} bytes at most")
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._refuse(*self._refusal)
        self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        if self._working and (self.pipeline or self.cycle.response_started):
            return  # nothing may stand between answers or in the midst of one
        body = json.dumps({"error": message}).encode()
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)

    # What the parser tells

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # behind a body in chunks; nobody asks for it
            return
        if len(self.headers) == self._limits.headers:
            self._end(431, f"a request must have {self._limits.headers} headers at most")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self._limits.head:
            self._end(431, f"the head of a request must have {self._limits.head:,} bytes at most")
        if len(self.pipeline) >= self._limits.pipelined:
            self._end(429, f"{self._limits.pipelined} requests at most may be sent ahead")
        if not self._working:
            self._since = self.loop.time()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._framing = 0
        self._chunks += 1
        if self._chunks > self._limits.chunks:
            self._end(413, f"a body must come in {self._limits.chunks:,} chunks at most")

    def on_body(self, body: bytes) -> None:
        self._framing -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._framing = self._chunks = 0

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def _end(self, status: int, message: str) -> None:
        """Stop the parser, in one of its callbacks; what it has not read is never looked at."""
        self._refusal = (status, message)
        raise httptools.HttpParserError(message)
