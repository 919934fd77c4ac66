"""A real server under requests that mean no good: nothing but refusals, no crash, and the next good one is answered."""

import base64
import gzip
import io
import json
import socket
import struct
import zlib

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.export.runtimes import FORMATS
from tests.converted import need
from tests.toy_model import convert, export, running

PREDICT = "/v1/models/toy:predict"
JPEG = {"content-type": "image/jpeg"}


ENGINES = ["tensorflow", *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS)]


@pytest.fixture(scope="module", params=ENGINES)
def server(tmp_path_factory, request):
    folder, engine = tmp_path_factory.mktemp("models") / "toy" / "1", request.param
    if engine == "tensorflow":
        export(folder)
    else:
        need(engine)
        convert(folder, engine)
    limits = {"body": 1_000_000, "rows": 16, "read_seconds": 2}
    with running(folder, engine, **limits) as (process, url), httpx.Client(base_url=url, timeout=30) as client:
        yield psutil.Process(process.pid), url, client


def image(form="PNG", size=(8, 8), mode="L", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, form, **options)
    return file.getvalue()


def lying(data, width, height):
    """A PNG whose header states another size than its pixels have, with a right checksum."""
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def lying_jpeg(width, height):
    data = image("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def animated(form):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (0, 255)]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def instances(*values, **more):
    return json.dumps({"instances": list(values), **more})


def multipart(content):
    return {"content": content, "headers": {"content-type": "multipart/form-data; boundary=x"}}


FILE_PART = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
TENSOR = {"signature_name": "serving_tensor"}
GOOD = instances(b64(image()))
BODIES = {  # what, sent as JSON or what it claims to be, and the status it must get
    "an empty body": ("", 400),
    "half a JSON object": ('{"instances": [', 400),
    "JSON with something behind it": (GOOD + "x", 400),
    "a JSON list": ("[1, 2]", 400),
    "a JSON null": ("null", 400),
    "invalid UTF-8": (b'{"instances": ["\xff\xfe"]}', 400),
    "UTF-16": (GOOD.encode("utf-16"), 400),
    "half a surrogate pair": ('{"signature_name": "echo", "instances": ["\\ud800"]}', 400),
    "NaN": (instances(float("nan"), signature_name="root"), 400),
    "Infinity": (instances(float("inf"), signature_name="root"), 400),
    "a number beyond float32": (instances(1e300, signature_name="root"), 400),
    "a number beyond float64": ('{"signature_name": "root", "instances": [1e999]}', 400),
    "an integer of 9,999 digits": ('{"signature_name": "root", "instances": [' + "9" * 9999 + "]}", 400),
    "an integer beyond its type": (instances({"a": [0, 0], "b": 2**31}, signature_name="two_inputs"), 400),
    "a negative pixel": (instances([[[-1]] * 8] * 8, **TENSOR), 400),
    "a pixel with a fraction": (instances([[[0.5]] * 8] * 8, **TENSOR), 400),
    "true as a number": (instances(True, signature_name="root"), 400),
    "1 as a boolean": (instances(1, signature_name="invert"), 400),
    "null as a number": (instances(None, signature_name="root"), 400),
    "an object as a number": (instances({"x": {}}, signature_name="root"), 400),
    "a picture of another size": (instances([[[0]] * 9] * 8, **TENSOR), 400),
    "a ragged picture": (instances([[[0]] * 8] * 7 + [[[0]] * 9], **TENSOR), 400),
    "lists beside numbers": (instances([1], 1, signature_name="root"), 400),
    "60,000 lists in each other": ('{"instances": ' + "[" * 60_000 + "]" * 60_000 + "}", 400),
    "900 lists in each other": ('{"instances": ' + "[" * 900 + "]" * 900 + "}", 400),
    "60,000 objects in each other": ('{"a":' * 60_000 + "1" + "}" * 60_000, 400),
    "no instances": ('{"instances": []}', 400),
    "instances that are an object": ('{"instances": {"b64": "AAAA"}}', 400),
    "no inputs": ('{"inputs": []}', 400),
    "neither instances nor inputs": ("{}", 400),
    "both instances and inputs": ('{"instances": [1], "inputs": [1]}', 400),
    "an unknown signature": (instances(1, signature_name="absent"), 400),
    "TensorFlow's own signature": (instances(1, signature_name="__saved_model_init_op"), 400),
    "a signature without inputs": (instances(1, signature_name="constant"), 400),
    "a signature name that is a number": (instances(1, signature_name=7), 400),
    "an input too many": (instances({"a": [1, 2], "b": 3, "c": 4}, signature_name="two_inputs"), 400),
    "an input too few": (instances({"a": [1, 2]}, signature_name="two_inputs"), 400),
    "columns of different lengths": ('{"signature_name": "two_inputs", "inputs": {"a": [[1, 2]], "b": [1, 2]}}', 400),
    "a row for a signature without rows": (instances(1, signature_name="scalar"), 400),
    "17 rows": (instances(*[b64(image())] * 17), 400),
    "broken base64": (instances({"b64": "@@@@"}), 400),
    "base64 of nothing": (instances({"b64": ""}), 400),
    "base64 that is a number": (instances({"b64": 1}), 400),
    "a text as an image": (instances("a text"), 400),
    "a body over the limit": (b" " * 1_000_001, 413),
    "an example that is no example": (instances(b64(b"\xff" * 9), signature_name="serving_classify"), 400),
    "8 bytes of PNG in an example": (instances(b64(b"\x89PNG\r\n\x1a\n"), signature_name="serving_classify"), 400),
}
IMAGES = {  # raw bodies that say they are images, and the status they must get
    "nothing": (b"", 400),
    "random bytes": (np.random.default_rng(0).bytes(5000), 400),
    "JSON": (GOOD.encode(), 400),
    "the 3 bytes that begin a JPEG": (b"\xff\xd8\xff", 400),
    "the 8 bytes that begin a PNG": (b"\x89PNG\r\n\x1a\n", 400),
    "a truncated JPEG": (image("JPEG", (64, 64))[:-300], 400),
    "a truncated PNG": (image(size=(64, 64))[:60], 400),
    "a PNG with a broken checksum": (image()[:45] + b"\0\0\0\0" + image()[49:], 400),
    "a PNG of 10,000 x 10,000 pixels": (image(size=(10_000, 10_000), mode="1"), 400),
    "a PNG that says 2,000,000,000 x 2,000,000,000": (lying(image(), 2_000_000_000, 2_000_000_000), 400),
    "a PNG that says 0 x 0": (lying(image(), 0, 0), 400),
    "a PNG that says 4,000 x 4,000 and is not": (lying(image(), 4_000, 4_000), 400),
    "a JPEG that says 65,500 x 65,500": (lying_jpeg(65_500, 65_500), 400),
    "a JPEG that says 5,000 x 5,000 and is not": (lying_jpeg(5_000, 5_000), None),
    "a GIF of two frames": (animated("GIF"), 200),
    "a WebP of two frames": (animated("WEBP"), 200),
    "a truncated WebP of two frames": (animated("WEBP")[:-20], None),
    "a PNG of two frames": (animated("PNG"), 200),
    "a GIF that says 60,000 x 60,000": (b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + animated("GIF")[10:], 400),
    "a BMP that says 70,000 x 70,000": (
        image("BMP")[:18] + struct.pack("<ii", 70_000, 70_000) + image("BMP")[26:],
        400,
    ),
    "a TIFF": (image("TIFF"), 400),
    "a PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", 400),
    "an EPS that would start Ghostscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400),
    "a PNG with 16 bits": (image(mode="I;16"), 200),
    "a CMYK JPEG": (image("JPEG", mode="CMYK"), 200),
    "a PNG with a palette and alpha": (image(mode="P", transparency=0), 200),
}
REQUESTS = {  # whole requests
    "a wrong verb": ({"method": "PUT", "url": PREDICT, "content": GOOD}, 400),
    "GET where POST belongs": ({"method": "GET", "url": PREDICT}, 400),
    "POST where GET belongs": ({"url": "/v1/models/toy", "content": GOOD}, 400),
    "an unknown verb": ({"method": "TRACE", "url": "/"}, 405),
    "an unknown path": ({"method": "GET", "url": "/etc/passwd"}, 404),
    "a path that climbs": ({"method": "GET", "url": "/v1/models/..%2f..%2fetc%2fpasswd"}, 400),
    "a path of 20,000 characters": ({"method": "GET", "url": "/v1/" + "a" * 20_000}, 400),
    "another method of the model": ({"url": "/v1/models/toy:explain", "content": GOOD}, 400),
    "classify of a signature that does not": ({"url": "/v1/models/toy:classify", "content": '{"examples": [{}]}'}, 400),
    "classify of a signature without classes": (
        {"url": "/v1/models/toy:classify", "content": '{"signature_name": "flat_scores", "examples": [{}]}'},
        400,
    ),
    "an unknown encoding": ({"content": GOOD, "headers": {"content-encoding": "br"}}, 415),
    "gzip that is none": ({"content": GOOD, "headers": {"content-encoding": "gzip"}}, 400),
    "truncated gzip": ({"content": gzip.compress(GOOD.encode())[:-9], "headers": {"content-encoding": "gzip"}}, 400),
    "gzip of 60 MB": ({"content": gzip.compress(bytes(60 << 20), 1), "headers": {"content-encoding": "gzip"}}, 413),
    "a form without a boundary": ({"content": GOOD, "headers": {"content-type": "multipart/form-data"}}, 400),
    "an empty form": (multipart(b""), 400),
    "a form without a file": (multipart(b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n1\r\n--x--\r\n'), 400),
    "a truncated form": (multipart(FILE_PART + image()[:30]), 400),
    "a form cut in its header": (multipart(FILE_PART[:30]), 400),
    **{
        f"a form in {charset}": (
            {
                "content": b"--x--\r\n",
                "headers": {"content-type": f"multipart/form-data; boundary=x; charset={charset}"},
            },
            400,
        )
        for charset in ("klingon", "zlib", "rot13", "hex", "", "x" * 5000)
    },
    "17 files": (multipart((FILE_PART + image() + b"\r\n") * 17 + b"--x--\r\n"), 400),
}
for what, content in {
    "nothing": "",
    "no inputs": "{}",
    "inputs that are a number": '{"inputs": 1}',
    "an input that is a number": '{"inputs": [1]}',
    "NaN": '{"inputs": [{"name": "image", "shape": [NaN], "datatype": "UINT8", "data": []}]}',
    "a shape beyond memory": '{"inputs": [{"name": "image", "shape": [99999999999], "datatype": "UINT8", "data": []}]}',
    "a file that is none": '{"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["?"]}]}',
    "a file that is a number": '{"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [1]}]}',
}.items():
    REQUESTS[f"an inference of {what}"] = ({"url": "/v2/models/toy/infer", "content": content}, 400)
REQUESTS["binary tensors that are not there"] = (
    {"url": "/v2/models/toy/infer", "content": "{}", "headers": {"inference-header-content-length": "9"}},
    400,
)
for method in ("classify", "regress"):
    url = f"/v1/models/toy:{method}"
    name = {"classify": "serving_classify", "regress": "regress"}[method]
    for what, examples in {
        "no examples": None,
        "an empty list": [],
        "a number as an example": [1],
        "a missing feature": [{}],
        "mixed types": [{"x": [1, 2.5]}],
        "a list in a list": [{"x": [[1.0]]}],
        "null": [{"x": None}],
        "an integer of 65 bits": [{"x": 2**64}],
        "a number beyond float32": [{"x": 1e300}],
        "an image that is none": [{"image_bytes": "no image"}],
        "a number as an image": [{"image_bytes": 3}],
    }.items():
        content = json.dumps({"signature_name": name, "examples": examples})
        REQUESTS[f"{method} with {what}"] = ({"url": url, "content": content}, 400)


def assert_refused(client, request, status):
    """`request` gets `status` (None: 200 or 400, as the decoder likes) and a reason, the next good one its answer."""
    answer = client.request(**({"method": "POST", "url": PREDICT} | request))
    assert answer.status_code in ((200, 400) if status is None else (status,)), answer.text
    if not answer.is_success:
        assert set(answer.json()) == {"error"}
        assert len(answer.json()["error"]) <= 300
        assert "Traceback" not in answer.text
        assert ".py" not in answer.text
    good = client.post(PREDICT, content=GOOD)
    assert good.json()["predictions"][0]["label"] == "dark"


@pytest.mark.parametrize("what", BODIES)
def test_a_hostile_body_is_refused(server, what):
    content, status = BODIES[what]
    assert_refused(server[2], {"content": content}, status)


@pytest.mark.parametrize("what", IMAGES)
def test_a_hostile_image_is_refused(server, what):
    content, status = IMAGES[what]
    assert_refused(server[2], {"content": content, "headers": JPEG}, status)


@pytest.mark.parametrize("what", REQUESTS)
def test_a_hostile_request_is_refused(server, what):
    request, status = REQUESTS[what]
    assert_refused(server[2], request, status)


def raw(url, data, shut=False, patience=10):
    """What the server answers to bytes on a socket."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=patience) as connection:
        connection.sendall(data)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        return connection.recv(65536)


def test_a_body_that_never_arrives_is_given_up(server):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode()
    assert raw(server[1], head).startswith(b"HTTP/1.1 408")
    assert_refused(server[2], {"content": "{"}, 400)


def test_a_client_that_goes_away_costs_nothing(server):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{".encode()
    for _ in range(20):
        raw(server[1], head + b" ", shut=True)
    assert "cnn_body_bytes 0\n" in server[2].get("/metrics").text


def test_a_stated_length_over_the_limit_is_refused_before_the_body(server):
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
    assert raw(server[1], head.encode()).startswith(b"HTTP/1.1 413")


def test_noise_instead_of_http_is_refused(server):
    assert raw(server[1], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert_refused(server[2], {"content": "{"}, 400)


def test_memory_stays_flat_over_many_calls(server):
    process, _, client = server
    bad = instances(b64(image(size=(2000, 2000))), b64(b"no image"))

    def calls(count):
        for _ in range(count):
            assert client.post(PREDICT, content=GOOD).is_success
            assert client.post(PREDICT, content=bad).status_code == 400

    calls(200)
    before = process.memory_info().rss
    calls(500)
    assert process.memory_info().rss - before < 50 * 2**20
