"""The page about pixels shows what the libraries that are installed do."""

import re
from pathlib import Path

import numpy as np

from tests.benchmarks import bench_pixels

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "pixels.md"


def test_the_table_of_places_is_that_of_the_benchmark():
    rows = re.findall(r"^\| (\S.*?) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text("utf-8"), re.M)
    shown = {name: [float(place) for place in places] for name, *places in rows}
    read = bench_pixels.positions()
    assert read.keys() <= shown.keys()
    for name, places in read.items():
        np.testing.assert_allclose(places, shown[name], atol=0.006, err_msg=name)


def test_every_decoder_of_the_project_gives_the_pixels_of_the_accurate_method():
    (photo, *_), decoders = bench_pixels.composites.photographs_of("sklearn"), bench_pixels.decoders()
    for kind, data in bench_pixels.files(photo).items():
        right = decoders["TensorFlow, accurate"](data)
        for name, decode in decoders.items():
            if name.startswith("cnn-keras"):
                np.testing.assert_array_equal(decode(data), right, err_msg=f"{kind}, {name}")
