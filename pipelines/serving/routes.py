"""What answers a request: the routes of both protocols, image files, a page, health and metrics."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Match, Route

from pipelines.serving import archive, metrics, observation
from pipelines.serving.http import request_body
from pipelines.serving.http.errors import Refusal
from pipelines.serving.http.limits import Limits
from pipelines.serving.http.origin import Visitors
from pipelines.serving.memory import give_back
from pipelines.serving.model import Model
from pipelines.serving.rest import open_inference, protocol, responses
from pipelines.serving.signature import DEFAULT_SIGNATURE, Tensors
from pipelines.serving.versions import Source, Version, Versions

log = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page.html")
PAGE_POLICY = (  # the page loads nothing from anywhere, and stands in no other
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
SMALL_BODY = 2**16  # bytes of one that is read on the spot
LARGE_BODY = 2**20  # bytes of one that keeps waiting only those as large
SMALL_ANSWER = 10_000  # values that are written on the spot
ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

COMPACT = json.JSONEncoder(separators=(",", ":"))

Handler = Callable[[Request], Awaitable[Response]]


class ModelEndpoints:
    """Takes requests in, has them checked, queued and run, and hands the answers out."""

    def __init__(
        self,
        source: Source,
        limits: Limits,
        visitors: Visitors | None = None,
        *,
        versions: int = 1,
        say: Callable[[str], None] = lambda message: None,
        keep: archive.Settings | None = None,
    ) -> None:
        """Load the model, so many versions of it.

        Args:
            visitors: who may ask; without, anybody is let in: whatever stands in front has to know.
            say: hears which versions come and go.
            keep: which of the pictures that are served are kept; None for none.
        """
        self.limits = limits
        self.draining = False
        self._visitors = visitors
        self._intake = request_body.Intake(limits)
        self._request_metrics = metrics.RequestMetrics()
        self._archive = archive.Archive(keep) if keep else None
        served = self._archive.called if self._archive else None
        self.versions = Versions(
            source, limits, count=versions, watch=self._request_metrics.call, say=say, served=served
        )
        if keep:
            archive.check_model(self.model, keep)
        self._readers = {large: ThreadPoolExecutor(1, "reader") for large in (False, True)}
        self._page = PAGE.read_text("utf-8")

    @property
    def model(self) -> Model:
        """The newest version."""
        return self.versions.newest.model

    @property
    def name(self) -> str:
        """Of the model, with the number of its newest version and its plan."""
        name = f"{self.model.name}/{self.model.version}"
        return f"{name}, {self.model.plan}," if self.model.plan else name

    def application(self) -> Starlette:
        """The ASGI application with all routes."""
        routes = [
            Route("/v1/{path:path}", self._measured("other", self._models), methods=ANY_METHOD),  # the hot one
            Route("/v2{path:path}", self._measured("other", self._open_inference), methods=ANY_METHOD),
            Route("/", self._measured("page", self._show_page)),
            Route("/healthz", self._measured("health", self._health)),
            Route("/metrics", self._measured("metrics", self._metrics)),
            Route("/monitoring/prometheus/metrics", self._measured("metrics", self._metrics)),
            Route("/predict", self._measured("predict", self._predict), methods=["POST"]),
            Route("/{path:path}", self._measured("other", self._models), methods=ANY_METHOD),
        ]
        app = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers={HTTPException: not_routed})
        app.state.endpoints = self
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.versions.start()
        watching = asyncio.create_task(self.versions.watch())
        yield
        watching.cancel()
        await asyncio.wait([watching])
        await self.versions.drain()
        if self._archive:
            await asyncio.to_thread(self._archive.close)
        for reader in self._readers.values():
            reader.shutdown()

    def _measured(self, kind: str, handler: Handler) -> Handler:
        """`handler` with refusals as answers, nothing internal in them, and everything counted."""

        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            try:
                if self._visitors:
                    self._visitors.check(request)
                response = await handler(request)
            except Refusal as refusal:
                response = refused(refusal.status, refusal.message)
            except Exception:
                log.exception("%s %s failed", request.method, request.url.path)
                response = refused(500, "internal error; the server's log has the reason")
            if self.draining:
                response.headers["connection"] = "close"
            verb = request.scope.get("verb", kind)
            self._request_metrics.request(verb, response.status_code, time.perf_counter() - started)
            return response

        return endpoint

    async def _show_page(self, request: Request) -> Response:
        return HTMLResponse(
            self._page.replace("{{model}}", _in_script(self.model)), headers={"content-security-policy": PAGE_POLICY}
        )

    async def _health(self, request: Request) -> Response:
        state = "draining" if self.draining else "ok"
        body = {"status": state, "model": self.model.name, "version": self.model.version}
        return json_response(body, 503 if self.draining else 200)

    async def _metrics(self, request: Request) -> Response:
        gauges = {"queue_rows": self.versions.rows, "body_bytes": self._intake.held}
        served = [*observation.lines(self.versions.observations), *(self._archive.lines() if self._archive else ())]
        return PlainTextResponse(self._request_metrics.text(gauges, served), media_type=metrics.CONTENT_TYPE)

    async def _models(self, request: Request) -> Response:
        """Everything under /v1/, whose paths Starlette's patterns cannot express."""
        path, method = request.scope["path"], request.method
        if method == "POST" and (place := protocol.PREDICTION.fullmatch(path)):
            return await self._predict(request, place["verb"].lower(), protocol.version_at(self.versions, place))
        if method == "GET" and (place := protocol.STATUS.fullmatch(path)):
            request.scope["verb"] = "metadata" if place["metadata"] else "status"
            model = protocol.version_at(self.versions, place).model
            if place["metadata"]:
                return json_response(responses.metadata(model))
            return json_response(responses.status([model.version] if place["version"] else self.versions.numbers))
        if path.lower().startswith("/v1/"):
            raise Refusal(400, f"Malformed request: {method} {path}")
        if allowed(request):
            return await not_routed(request, HTTPException(405))
        raise Refusal(404, f"there is nothing at {path}")

    async def _open_inference(self, request: Request) -> Response:
        """Everything under /v2."""
        path, method = request.scope["path"], request.method
        place = open_inference.PLACE.fullmatch(path)
        version = protocol.version_at(self.versions, place) if place else self.versions.newest
        if place and place["verb"] == "infer" and method == "POST":
            return await self._predict(request, "infer", version)
        ready = not self.draining
        answers: dict[str, tuple[responses.Answer, bool]] = {
            "/v2": (open_inference.server(), True),
            "/v2/health/live": ({"live": True}, True),
            "/v2/health/ready": ({"ready": ready}, ready),
        }
        if place and place["verb"] == "ready":
            answers[path] = {"name": version.model.name, "ready": ready}, ready
        elif place and place["verb"] is None:
            answers[path] = open_inference.metadata(version.model, self.versions.numbers), True
        known = path if place else path.rstrip("/")
        if method == "GET" and known in answers:
            answer, good = answers[known]
            return json_response(answer, 200 if good else 503)
        if place or known in answers:
            raise Refusal(400, f"Malformed request: {method} {path}")
        raise Refusal(404, f"there is nothing at {path}")

    async def _predict(self, request: Request, verb: str = "predict", version: Version | None = None) -> Response:
        request.scope["verb"] = verb
        version = version or self.versions.newest
        with version.used():
            async with self._intake.body(request) as body:
                return await self._answered(request, body, verb, version)

    async def _answered(self, request: Request, body: bytes, verb: str, version: Version) -> Response:
        try:
            async with asyncio.timeout(self.limits.answer_seconds):
                call = await self._read(request, body, verb, version.model)
                results = await version(call.job, is_short=len(body) <= SMALL_BODY)
                return await self._written(request, call, results)
        except TimeoutError:
            raise Refusal(504, f"no answer within {self.limits.answer_seconds:g} seconds") from None

    async def _read(self, request: Request, body: bytes, verb: str, model: Model) -> protocol.Call:
        """A large body on a thread: nobody waits meanwhile but others with large ones."""
        if len(body) <= SMALL_BODY:
            return self._call(request, body, verb, model)
        large = len(body) > LARGE_BODY

        def read() -> protocol.Call:
            try:
                return self._call(request, body, verb, model)
            finally:
                if large:
                    give_back()

        return await asyncio.get_running_loop().run_in_executor(self._readers[large], read)

    def _call(self, request: Request, body: bytes, verb: str, model: Model) -> protocol.Call:
        if verb == "infer":
            return open_inference.infer(model, body, self.limits, request.headers.get(open_inference.HEADER))
        kind, name = request_body.media_type(request), request.query_params.get("signature_name", DEFAULT_SIGNATURE)
        if verb == "predict" and kind.startswith("image/"):
            return protocol.images(model, [body], self.limits, name)
        if verb == "predict" and kind == "multipart/form-data":
            files = request_body.files(request, body, self.limits)
            return protocol.images(model, files, self.limits, name)
        return protocol.VERBS[verb](model, body, self.limits)

    async def _written(self, request: Request, call: protocol.Call, results: Tensors) -> Response:
        if call.picture and not request_body.wants_json(request):
            return Response(results[call.picture][0], media_type="image/png")
        if sum(tensor.size for tensor in results.values()) <= SMALL_ANSWER:
            return response(call.answer(results))
        return await asyncio.to_thread(lambda: response(call.answer(results)))


def response(content: responses.Answer | responses.Packed) -> Response:
    """JSON, with the binary tensors behind it, if there are any."""
    if not isinstance(content, responses.Packed):
        return json_response(content)
    head = COMPACT.encode(content.answer).encode()
    headers = {open_inference.HEADER: str(len(head))}
    return Response(head + content.data, headers=headers, media_type="application/octet-stream")


def json_response(content: responses.Answer, status: int = 200) -> Response:
    """Not JSONResponse: a model may answer NaN, which TensorFlow Serving writes as such."""
    return Response(COMPACT.encode(content), status, media_type="application/json")


def refused(status: int, message: str) -> Response:
    """The error as TensorFlow Serving writes it: `{"error": message}`."""
    response = json_response({"error": message}, status)
    if status == 408:  # what may still come of the body is no request
        response.headers["connection"] = "close"
    return response


async def not_routed(request: Request, error: Exception) -> Response:
    """The answer to a path or a method that does not exist."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    response = refused(status, f"{request.method} is not allowed for {request.url.path}")
    if status == 405:
        response.headers["allow"] = ", ".join(allowed(request) or ANY_METHOD)
    return response


def allowed(request: Request) -> list[str]:
    """The methods of the routes that name a request's path; those that take any path are left out."""
    routes = [route for route in request.app.routes if isinstance(route, Route) and "{path:path}" not in route.path]
    named = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in named for method in route.methods or ()})


def _in_script(model: Model) -> str:
    """What the page must know, safe inside a <script>."""
    classifiers = [name for name, each in model.signatures.items() if each.fits({"inputs"}, {"classes", "scores"})]
    default = model.signatures.get(DEFAULT_SIGNATURE)
    facts: dict[str, Any] = {"name": model.name, "version": model.version, "classify": classifiers[:1]}
    facts["takes_image"] = default is not None and default.takes_image
    paints = [name for name, each in model.signatures.items() if each.paints]
    facts["paints"] = [name for name in paints if name != DEFAULT_SIGNATURE] or paints  # the styles, if they have names
    facts["ranks"] = [len(slot.shape or ()) - 1 for slot in default.inputs.values()] if default else []
    return json.dumps(facts).replace("<", "\\u003c")
