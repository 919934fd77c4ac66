"""Reading what clients send: within the limits of size and time, gzip and forms unpacked."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pipelines.serving.http.errors import Refusal
from pipelines.serving.http.limits import Limits

GZIP = ("gzip", "x-gzip")
INFLATED = 2**18  # bytes at a time
SMALL = 4096  # a body of the share of 1 in so many of the memory always has room


class Intake:
    """Reads bodies, and knows how many bytes of them are held right now."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body, inflated if it came as gzip; held until the block ends.

        Raises:
            Refusal: 400 broken gzip, 408 too slow, 413 too long, 415 another encoding, 429 too many at once.
        """
        parts: list[bytes] = []
        try:
            await self._read(request, parts)
            yield b"".join(parts)
        finally:
            self.held -= sum(map(len, parts))

    async def _read(self, request: Request, parts: list[bytes]) -> None:
        """Append the inflated body to `parts` as it arrives."""
        limit, size = self._limits.body, 0
        if int(request.headers.get("content-length", 0)) > limit:
            raise Refusal(413, _too_long(limit))
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                async for part in _inflated(request):
                    parts.append(part)
                    size += len(part)
                    self.held += len(part)
                    if size > limit:
                        raise Refusal(413, _too_long(limit))
                    if size > self._limits.memory // SMALL and self.held > self._limits.memory:
                        raise Refusal(429, "the server is busy with other requests; try again in a moment")
        except TimeoutError:
            raise Refusal(408, f"the body must arrive within {self._limits.read_seconds:g} seconds") from None
        except ClientDisconnect:
            raise Refusal(499, "the client disconnected") from None


def files(request: Request, body: bytes, limits: Limits) -> list[bytes]:
    """The files of a multipart form, in order; its other fields are ignored."""
    _check_charset(request)

    async def stream() -> AsyncIterator[bytes]:
        yield body

    async def read_files() -> list[bytes]:
        parser = MultiPartParser(request.headers, stream(), max_files=limits.rows)  # type: ignore[arg-type]
        parser.spool_max_size = 2 * limits.body  # never a file on disk
        form = await parser.parse()
        try:
            return [await part.read() for _, part in form.multi_items() if isinstance(part, UploadFile)]
        finally:
            await form.close()

    try:
        uploaded = _at_once(read_files())
    except MultiPartException as error:
        raise Refusal(400, f"multipart form must be well-formed: {error.message}") from None
    if not uploaded:
        raise Refusal(400, "multipart form must have at least one file, as in curl -F file=@photo.jpg")
    return uploaded


def _at_once(coroutine: Coroutine[Any, Any, list[bytes]]) -> list[bytes]:
    """What a coroutine that waits for nothing returns, on any thread."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        files_read: list[bytes] = done.value
        return files_read
    raise RuntimeError("a form in memory must be read without waiting")


def _check_charset(request: Request) -> None:
    _, options = parse_options_header(request.headers.get("content-type"))
    name = options.get(b"charset", b"utf-8").decode("latin-1")
    try:
        b"".decode(name)
    except (LookupError, ValueError):
        raise Refusal(400, f"charset must be a known one, for example utf-8, got {name!r:.60}") from None


def media_type(request: Request) -> str:
    """`image/jpeg` of `Image/JPEG; charset=binary`."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def wants_json(request: Request) -> bool:
    """Whether the client accepts JSON and does not, in so many words, accept anything."""
    accepted = [part.split(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return "application/json" in accepted and "*/*" not in accepted


async def _inflated(request: Request) -> AsyncIterator[bytes]:
    """The body's parts as they arrive; those of gzip are inflated a little at a time, and others have their turn."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        async for part in request.stream():
            yield part
        return
    if encoding not in GZIP:
        raise Refusal(415, f"Content-Encoding must be gzip or identity, got {encoding}")
    inflate = zlib.decompressobj(wbits=31)
    try:
        async for part in request.stream():
            while part and not inflate.eof:
                yield inflate.decompress(part, INFLATED)
                part = inflate.unconsumed_tail
                await asyncio.sleep(0)
    except zlib.error as error:
        raise Refusal(400, f"the gzip body must be well-formed: {error}") from None
    if not inflate.eof or inflate.unused_data:
        raise Refusal(400, "the gzip body must be one complete stream")


def _too_long(limit: int) -> str:
    return f"the body must be {limit:,} bytes at most"
