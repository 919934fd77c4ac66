"""Pipelines for the tests of tracking to tell, and ways to look at what has arrived."""

import json

from pipelines.tracking import tracker as tracking_tracker
from pipelines.tracking.journal import Journal
from pipelines.tracking.tracker import Tracker


def tracker(folder, experiment="classify"):
    return Tracker(folder, experiment=experiment, name="digits-lenet5")


def run_of(client, folder):
    """The MLflow run of the folder's last journal."""
    bookmarks = json.loads(Journal.last(folder / "tracking").path.with_suffix(".delivered.json").read_text())
    return client.get_run(bookmarks[tracking_tracker.store_uri()]["run"])


def tell_a_pipeline(tracker, folder):
    tracker.start(tags={"mlflow.source.git.commit": "0" * 40})
    tracker.params({"train": {"epochs": 2}, "seed": 0})
    tracker.dataset(name="digits", digest="sha256:" + "ab" * 32, source="scikit-learn", context="training")
    for epoch in (1, 2):
        tracker.metrics({"loss": 1 / epoch, "accuracy (top-5)": 1 - 1 / epoch}, step=epoch)
        tracker.system()
    (folder / "confusion.png").write_bytes(b"\x89PNG")
    tracker.artifact(folder / "confusion.png", folder="evaluate")


def artifacts_of(client, run, folder=None):
    return [file.path for file in client.list_artifacts(run.info.run_id, folder)]


def save_model(folder, bias):
    """A SavedModel that tells images by the length of their bytes."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def answer(image_bytes):
        probabilities = tf.nn.softmax(tf.one_hot(tf.strings.length(image_bytes) % 3, 3) + bias)
        best = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "class_id": best, "label": tf.gather(["zero", "one", "two"], best)}

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": answer})


def tell_a_model(folder, name, accuracy, experiment="classify"):
    save_model(folder / "export" / name / "1", bias=[0.0, 0.5, 0.0])
    with tracker(folder, experiment) as told:
        told.model(
            folder / "export" / name / "1",
            name=name,
            metrics={"test_accuracy": accuracy, "label": float("nan")},
            requirement="test_accuracy >= 0.98",
        )
