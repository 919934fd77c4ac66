"""An embedder says of one picture where it lies; what must be aligned first is for `cnn faces`."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.errors import Fault
from pipelines.inference import embedding, predict
from pipelines.inference.prediction import DEFAULT


class Mean:
    """An exported embedder: the mean of red and of green, of length 1."""

    structured_outputs = ("embedding",)

    def __call__(self, image_bytes):
        means = [tf.reduce_mean(tf.cast(tf.io.decode_png(one), tf.float32), [0, 1])[:2] for one in image_bytes]
        return {"embedding": tf.math.l2_normalize(tf.stack(means), axis=-1)}


def model():
    return SimpleNamespace(signatures={DEFAULT: Mean()})


def test_a_picture_has_an_embedding_and_what_is_none_a_problem(tmp_path):
    for name, red in (("a.png", 30), ("b.png", 0)):
        (tmp_path / name).write_bytes(encode_png(np.full((4, 4, 3), (red, 40, 7), np.uint8)))
    (tmp_path / "c.png").write_text("no picture")
    predictor = predict.predictor_of(model(), tmp_path, top=1)
    answers = predictor.predict([tmp_path / name for name in ("a.png", "b.png", "c.png")], None)
    assert [answer.as_dict().get("embedding") for answer in answers] == [pytest.approx([0.6, 0.8]), [0, 1], None]
    assert [bool(answer.problem) for answer in answers] == [False, False, True]
    header, first, _, last = embedding.Embedding.table(answers)
    assert header == ["path", "embedding_0", "embedding_1", "problem"]
    assert [float(value) for value in first[1:3]] == pytest.approx([0.6, 0.8])
    assert last[1:3] == ["", ""]
    with pytest.raises(Fault, match="embedder"):
        predict.draw(answers, tmp_path)


def test_faces_that_must_be_aligned_first_are_for_the_command_that_does_it(tmp_path):
    (tmp_path / embedding.FACTS).parent.mkdir()
    (tmp_path / embedding.FACTS).write_text(json.dumps({"align": "opencv"}))
    with pytest.raises(Fault, match="cnn faces"):
        predict.predictor_of(model(), tmp_path, top=1)
