"""Reading what clients send: within the limits of size and time, gzip and forms unpacked."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pipelines.serving.limits import Limits
from pipelines.serving.refusal import Refusal

GZIP = ("gzip", "x-gzip")


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
        inflate = _inflater(request)
        if int(request.headers.get("content-length", 0)) > limit:
            raise Refusal(413, _too_long(limit))
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                async for part in request.stream():
                    parts.append(part if inflate is None else _inflated(inflate, part, limit - size))
                    size += len(parts[-1])
                    self.held += len(parts[-1])
                    if size > limit:
                        raise Refusal(413, _too_long(limit))
                    if self.held > self._limits.memory:
                        raise Refusal(429, "the server is busy with other requests; try again in a moment")
        except TimeoutError:
            raise Refusal(408, f"the body must arrive within {self._limits.read_seconds:g} seconds") from None
        except ClientDisconnect:
            raise Refusal(499, "the client went away") from None
        if inflate is not None and (not inflate.eof or inflate.unused_data):
            raise Refusal(400, "the gzip body must be whole and nothing else")


async def files(request: Request, body: bytes, limits: Limits) -> list[bytes]:
    """The files of a multipart form, in order; its other fields are ignored."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(request.headers, stream(), max_files=limits.rows).parse()  # type: ignore[arg-type]
    except MultiPartException as error:
        raise Refusal(400, f"multipart form must be well-formed: {error.message}") from None
    try:
        found = [await part.read() for _, part in form.multi_items() if isinstance(part, UploadFile)]
    finally:
        await form.close()
    if not found:
        raise Refusal(400, "multipart form must have at least one file, as in curl -F file=@photo.jpg")
    return found


def media_type(request: Request) -> str:
    """`image/jpeg` of `Image/JPEG; charset=binary`."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def wants_json(request: Request) -> bool:
    """Whether the client accepts JSON and does not, in so many words, accept anything."""
    accepted = [part.split(";")[0].strip().lower() for part in request.headers.get("accept", "").split(",")]
    return "application/json" in accepted and "*/*" not in accepted


def _inflater(request: Request) -> "zlib._Decompress | None":
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in GZIP:
        return zlib.decompressobj(wbits=31)
    if encoding in ("identity", ""):
        return None
    raise Refusal(415, f"Content-Encoding must be gzip or identity, got {encoding}")


def _inflated(inflate: "zlib._Decompress", part: bytes, room: int) -> bytes:
    try:
        return inflate.decompress(part, room + 1)  # one more than allowed is enough to refuse it
    except zlib.error as error:
        raise Refusal(400, f"the gzip body must be well-formed: {error}") from None


def _too_long(limit: int) -> str:
    return f"the body must be {limit:,} bytes at most"
