"""What the answers of a classifier of images rest on: Grad-CAM of the likeliest class."""

from cnn_keras.ops.resize import resize_image
from pipelines.data import image_dataset
from pipelines.engine import heat_maps
from pipelines.engine.classification import classifier
from pipelines.engine.stages import Run


def explainer(run: Run) -> heat_maps.Explainer:
    """What explains the likeliest class of pictures, uint8 (height, width, channels), of any size."""
    shape, names = image_dataset.shape_of(run.recipe.data), run.facts("prepare")["classes"]
    return heat_maps.classifier(
        classifier.load_trained(run), names, lambda image: resize_image(image, shape.size, fit=shape.fit).numpy()
    )
