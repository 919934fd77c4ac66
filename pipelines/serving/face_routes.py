"""The gallery over HTTP: the verbs of `cnn faces`, for clients with the key.

    POST   /faces/people/NAME          enrol the photograph in the body
    POST   /faces/people/NAME/verify   is it NAME?
    POST   /faces/identify             who is it?
    GET    /faces/people               everybody
    GET    /faces/people/NAME          what is known of NAME, embeddings too
    DELETE /faces/people/NAME          forget NAME

Photographs are bodies of `image/*`, or files of a form; a gallery with a detector answers about each face, with its
box, and the number of its upload, from 1. `?far=0.001` asks for another false-accept rate. `/healthz` and `/metrics`
are there too. Every request but `/healthz` must carry the API key: `Authorization: Bearer KEY`. On loopback one is made
up where none is given; beyond, no server starts without.
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from pipelines.faces import service
from pipelines.faces.encoder import Recogniser
from pipelines.faces.gallery import Gallery, checked_name, nobody
from pipelines.serving import metrics
from pipelines.serving.http import request_body
from pipelines.serving.http.errors import Refusal
from pipelines.serving.http.limits import Limits
from pipelines.serving.http.origin import Visitors
from pipelines.serving.rest.images import check_headers, upright
from pipelines.serving.routes import json_response, not_routed, refused

log = logging.getLogger(__name__)

SHORTEST = 16  # characters of a key
Handler = Callable[[Request], Awaitable[Response]]


class FaceEndpoints:
    """Takes photographs in, one request at a time through the model, and answers from the gallery."""

    def __init__(
        self,
        gallery: Gallery,
        recogniser: Recogniser,
        limits: Limits,
        *,
        key: str = "",
        visitors: Visitors | None = None,
    ) -> None:
        """Without `visitors` or `key` anybody is let in, as behind a server that has asked already."""
        self.name = f"{recogniser.folder.parent.name} and {gallery.count():,} photographs"
        self.draining = False
        self._visitors = visitors
        self._gallery, self._recogniser, self._limits, self._key = gallery, recogniser, limits, key
        self._intake, self._request_metrics = request_body.Intake(limits), metrics.RequestMetrics()
        self._model = asyncio.Lock()
        self._waiting = 0

    def application(self) -> Starlette:
        """The ASGI application with all routes."""
        person = "/faces/people/{name}"
        routes = [
            Route("/faces/people", self._measured("list", self._list), methods=["GET"]),
            Route("/faces/identify", self._measured("identify", self._identify), methods=["POST"]),
            Route(f"{person}/verify", self._measured("verify", self._verify), methods=["POST"]),
            Route(person, self._measured("enrol", self._enrol), methods=["POST"]),
            Route(person, self._measured("export", self._export), methods=["GET"]),
            Route(person, self._measured("forget", self._forget), methods=["DELETE"]),
            Route("/healthz", self._measured("health", self._health, open_=True), methods=["GET"]),
            Route("/metrics", self._measured("metrics", self._metrics), methods=["GET"]),
        ]
        app = Starlette(routes=routes, exception_handlers={HTTPException: not_routed})
        app.state.endpoints = self
        return app

    def _measured(self, verb: str, handler: Handler, *, open_: bool = False) -> Handler:
        """`handler` for who has the key, with refusals as answers, nothing internal in them, and everything counted."""

        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            try:
                if self._visitors:
                    self._visitors.check(request)
                if not open_:
                    self._check_key(request)
                response = await handler(request)
            except Refusal as refusal:
                response = refused(refusal.status, refusal.message)
            except Fault as fault:
                response = refused(503, str(fault))  # the gallery is in use, or of another model
            except Exception:
                log.exception("%s %s failed", request.method, request.url.path)
                response = refused(500, "internal error; the server's log has the reason")
            if self.draining:
                response.headers["connection"] = "close"
            self._request_metrics.request(verb, response.status_code, time.perf_counter() - started)
            return response

        return endpoint

    def _check_key(self, request: Request) -> None:
        header = request.headers.get("authorization", "")
        if self._key and not hmac.compare_digest(header.encode(), f"Bearer {self._key}".encode()):
            raise Refusal(401, "the header Authorization must be `Bearer` and the server's API key")

    async def _health(self, request: Request) -> Response:
        state = "draining" if self.draining else "ok"
        return json_response({"status": state, "model": self._recogniser.settings.model}, 503 if self.draining else 200)

    async def _metrics(self, request: Request) -> Response:
        gauges = {"queue_rows": self._waiting, "body_bytes": self._intake.held}
        return PlainTextResponse(self._request_metrics.text(gauges), media_type=metrics.CONTENT_TYPE)

    async def _list(self, request: Request) -> Response:
        people = await asyncio.to_thread(self._gallery.people)
        return json_response({"people": [person._asdict() for person in people]})

    async def _export(self, request: Request) -> Response:
        name = request.path_params["name"]
        rows = await asyncio.to_thread(lambda: list(self._gallery.enrolled(name)))
        if not rows:
            raise _unknown(nobody(name, "the gallery"))
        photos = [{"photo": row.source, "since": row.since, "embedding": row.vector.tolist()} for row in rows]
        return json_response({"name": name, "model": self._recogniser.settings.model, "photos": photos})

    async def _forget(self, request: Request) -> Response:
        name = request.path_params["name"]
        await self._known(name)
        count = await asyncio.to_thread(self._gallery.forget, name)
        return json_response({"name": name, "forgotten": count})

    async def _enrol(self, request: Request) -> Response:
        try:
            name = checked_name(request.path_params["name"])
        except Fault as fault:
            raise Refusal(400, str(fault)) from None

        def enrol(files: Sequence[bytes]) -> dict[str, Any]:
            photos = [(name, partial(bytes, file), f"upload {number + 1}") for number, file in enumerate(files)]
            added, known, problems = service.enrol(self._gallery, self._recogniser, photos)
            problem_texts = {problem.id: f"{problem.kind}: {problem.detail}" for problem in problems}
            if not added and not known:
                raise Refusal(400, "; ".join(f"{upload}: {reason}" for upload, reason in problem_texts.items()))
            return {"name": name, "enrolled": added, "known": known, "problems": problem_texts}

        return json_response(await self._of_photographs(request, enrol))

    async def _verify(self, request: Request) -> Response:
        name, far = request.path_params["name"], _far(request)
        await self._known(name)

        def verify(files: Sequence[bytes]) -> list[dict[str, Any]]:
            return [answer.as_dict() for answer in service.verify(self._gallery, self._recogniser, name, files, far)]

        return json_response({"answers": await self._of_photographs(request, verify)})

    async def _identify(self, request: Request) -> Response:
        far = _far(request)

        def identify(files: Sequence[bytes]) -> list[dict[str, Any]]:
            uploads = enumerate(service.identify(self._gallery, self._recogniser, files, far), start=1)
            return [{"upload": number, **answer.as_dict()} for number, answers in uploads for answer in answers]

        return json_response({"answers": await self._of_photographs(request, identify)})

    async def _of_photographs(self, request: Request, ask: Callable[[Sequence[bytes]], Any]) -> Any:
        """What `ask` says of the body's photographs, on a thread of its own, one request after the other."""
        if self._waiting >= self._limits.queue:
            raise Refusal(429, f"the server is busy with {self._waiting} requests; try again in a moment")
        self._waiting += 1
        try:
            async with self._intake.body(request) as body:
                async with asyncio.timeout(self._limits.answer_seconds):
                    pictures = await asyncio.to_thread(lambda: check_headers(self._files(request, body), self._limits))
                    async with self._model:
                        return await asyncio.to_thread(lambda: ask(upright(pictures)))
        except TimeoutError:
            raise Refusal(504, f"no answer within {self._limits.answer_seconds:g} seconds") from None
        finally:
            self._waiting -= 1

    def _files(self, request: Request, body: bytes) -> list[bytes]:
        kind = request_body.media_type(request)
        if kind == "multipart/form-data":
            return request_body.files(request, body, self._limits)
        if not kind.startswith("image/"):
            raise Refusal(415, "the body must be a photograph with the header Content-Type: image/jpeg, or a form")
        return [body]

    async def _known(self, name: str) -> None:
        """404 for a name that nobody has."""
        if not await asyncio.to_thread(lambda: next(self._gallery.enrolled(name), None)):
            raise _unknown(nobody(name, "the gallery"))


def warm(gallery: Gallery, recogniser: Recogniser) -> None:
    """Ask once, so that nobody waits for the model's first call or for the gallery to be read."""
    grey = encode_png(np.full((*recogniser.facts["size"], 3), 128, np.uint8))
    vector = recogniser.embed([grey])[0]
    if gallery.settings() and not isinstance(vector, str):
        gallery.nearest(recogniser.settings.model, vector[None], 1)


def checked_key(key: str, *, loopback: bool) -> str:
    """The API key: `key`, or on loopback, where there is none, one that is made up.

    Raises:
        Fault: there is none where others can reach the server, or one that could be guessed.
    """
    if not key and not loopback:
        raise Fault(
            "CNN_API_KEY is required unless --host is loopback: a secret that clients send, of 16 characters or more"
        )
    if key and (len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key):
        raise Fault(f"CNN_API_KEY must be {SHORTEST} ASCII characters or more without a space, got {len(key)}")
    return key or secrets.token_urlsafe()


def _unknown(fault: Fault) -> Refusal:
    return Refusal(404, str(fault).split(";")[0])


def _far(request: Request) -> float | None:
    text = request.query_params.get("far")
    if text is None:
        return None
    try:
        far = float(text)
    except ValueError:
        far = 0.0
    if not 0 < far < 1:
        raise Refusal(400, f"far must be a number between 0 and 1, got {text[:50]!r}")
    return far
