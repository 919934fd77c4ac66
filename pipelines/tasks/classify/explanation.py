"""What the answers of a classifier of images rest on: Grad-CAM of the likeliest class, or of each label answered."""

from cnn_keras.ops.resize import resize_image
from pipelines.data import image_dataset
from pipelines.engine import heat_maps
from pipelines.engine.classification import classifier, label_kind
from pipelines.engine.stages import Run
from pipelines.tasks.classify import multi_label_report


def explainer(run: Run) -> heat_maps.Explainer:
    """What explains the answers to pictures, uint8 (height, width, channels), of any size."""
    shape, names, kind = (
        image_dataset.shape_of(run.recipe.data),
        run.facts("prepare")["classes"],
        label_kind.of(run.recipe),
    )
    return heat_maps.classifier(
        classifier.load_trained(run),
        names,
        lambda image: resize_image(image, shape.size, fit=shape.fit).numpy(),
        kind=kind,
        thresholds=multi_label_report.thresholds_of(run) if kind is label_kind.MULTI else None,
    )
