"""12,000 requests that mean no good, slow clients, large JSON, costly pictures: others are answered all along."""

import asyncio
import base64
import io
import json
import multiprocessing
import random
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from tests.cnn_keras.data.files.test_image_headers import COSTLY
from tests.pipelines.serving.http.test_hostile_requests import BODIES, GOOD, IMAGES, JPEG, PREDICT, REQUESTS
from tests.toy_model import export, running

pytestmark = pytest.mark.slow

COUNT, AT_ONCE = 12_000, 24
PATIENCE = 20  # seconds, after which a good request has failed; on two quiet cores none takes 2
LIMITS = {"head_seconds": 5.0, "read_seconds": 8.0}
SLOW = 200


def large_json(values):
    return json.dumps({"signature_name": "root", "instances": values})


def costly():
    """Requests that may be answered, and take long."""
    numbers = np.random.default_rng(0).integers(0, 256, 1_900_000).tolist()
    yield {"url": PREDICT, "content": large_json(numbers)}
    yield {"url": PREDICT, "content": '{"instances": [' + "[0]," * 900_000 + "[0]]}"}
    yield {"url": PREDICT, "content": '{"instances": ' + "[" * 1_900_000}
    for kind, mode in (("PNG", "1"), ("GIF", "1"), ("JPEG", "L"), ("WEBP", "RGB"), ("BMP", "1")):
        file = io.BytesIO()
        options = {"progressive": True} if kind == "JPEG" else {}
        Image.new(mode, (7000, 7000)).save(file, kind, **options)
        yield {"url": "/predict", "content": file.getvalue(), "headers": {"content-type": f"image/{kind.lower()}"}}
    for data in COSTLY.values():
        yield {"url": "/predict", "content": data, "headers": JPEG}
        yield {"url": PREDICT, "content": json.dumps({"instances": [{"b64": base64.b64encode(data).decode()}]})}


def malformed():
    for content, _ in BODIES.values():
        yield {"content": content}
    for content, _ in IMAGES.values():
        yield {"content": content, "headers": JPEG}
    for request, _ in REQUESTS.values():
        yield request
    for charset in ("klingon", "zlib", "rot13", "a\0b", "x" * 5000, ""):
        kind = f"multipart/form-data; boundary=x; charset={charset}".encode("latin-1").replace(b"\0", b"%00")
        yield {"content": b"--x--\r\n", "headers": {"content-type": kind}}


def mutated(request, rng):
    """The same with a few of its body's bytes changed, left out or doubled."""
    content = request.get("content", b"")
    content = bytearray(content.encode() if isinstance(content, str) else content)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(content) + 1)
        content[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
    return {**request, "content": bytes(content)}


async def slow_client(host, port, beginning):
    """Seconds until the server closes a connection that goes on a byte at a time."""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(beginning)
        while time.monotonic() - started < 60:
            try:
                if not await asyncio.wait_for(reader.read(65536), 0.5):
                    break
            except TimeoutError:
                writer.write(b"x")
    except ConnectionError:
        pass
    finally:
        writer.close()
    return time.monotonic() - started


async def attack(url):
    """How often each status was answered, and the seconds after which each slow client was cut off."""
    statuses, rng = Counter(), random.Random(0)
    host, port = url.removeprefix("http://").split(":")
    requests, heavy = list(malformed()), iter([*costly()] * 4)
    plan = (mutated(requests[number % len(requests)], rng) for number in range(COUNT))
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
    beginnings = [b"", b"GET / HT", head.encode() + b"X: ", head.encode() + b"\r\n"]

    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=AT_ONCE)) as client:

        async def send(some):
            for request in some:
                answer = await client.request(**({"method": "POST", "url": PREDICT} | request))
                statuses[answer.status_code] += 1

        slow = asyncio.gather(*(slow_client(host, port, beginnings[each % 4]) for each in range(SLOW)))
        await asyncio.gather(*(send(plan) for _ in range(AT_ONCE - 4)), *(send(heavy) for _ in range(4)))
        return statuses, await slow


def attacked(url):
    return asyncio.run(attack(url))


def test_a_flood_of_bad_requests_breaks_nothing_and_holds_nobody_up(tmp_path):
    folder, latencies = export(tmp_path / "toy" / "1"), []
    with (
        running(folder, **LIMITS) as (process, url),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere,
        httpx.Client(base_url=url, timeout=PATIENCE) as client,
    ):
        before = psutil.Process(process.pid).memory_info().rss
        flood = elsewhere.submit(attacked, url)
        while not flood.done():
            started = time.monotonic()
            answer = client.post(PREDICT, content=GOOD)
            latencies.append(time.monotonic() - started)
            assert answer.json()["predictions"][0]["label"] == "dark"
            time.sleep(0.05)
        statuses, closed = flood.result()
        after = psutil.Process(process.pid).memory_info().rss
    median, late = np.quantile(latencies, (0.5, 0.99))
    print(f"\nanswers by status: {dict(sorted(statuses.items()))}")
    print(f"{len(latencies)} good requests: p50 {median:.3f} s, p99 {late:.3f} s, longest {max(latencies):.3f} s")
    print(f"slow clients closed after {max(closed):.1f} s at most")
    print(f"memory before {before >> 20} MB, after {after >> 20} MB")
    assert sum(statuses.values()) > COUNT
    assert not [status for status in statuses if status >= 500 and status != 503]
    assert max(closed) < LIMITS["head_seconds"] + LIMITS["read_seconds"] + PATIENCE
    # 120 to 200 MB were seen, for threads and what large pictures leave; a leak of 30 kB a request would be 360.
    assert after - before < 300 * 2**20
