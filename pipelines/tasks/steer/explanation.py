"""Where a network that steers looks: VisualBackProp."""

from collections.abc import Sequence

import numpy as np

from cnn_keras.errors import Fault
from cnn_keras.learn import visualization
from cnn_keras.ops.resize import resize_image
from pipelines.engine import heat_maps
from pipelines.engine.stages import Run
from pipelines.plots.image_grid import Array, Strip
from pipelines.tasks.steer import model


def explainer(run: Run) -> heat_maps.Explainer:
    """What shows where the network looks in frames, uint8 (height, width, channels), of any size."""
    if run.recipe.data.route:
        raise Fault("RECIPE must steer by the camera alone, got data.route: true, whose maps no picture has beside it")
    steerer, data, interval = model.steerer(run), run.recipe.data, run.recipe.export.interval

    def explain(frames: Sequence[Array]) -> list[list[Strip]]:
        images = np.stack([resize_image(frame, data.size, fit=data.fit).numpy() for frame in frames])
        angles = steerer.answer(images, interval)["angle"].numpy()
        heat = visualization.visual_backprop(steerer.model, images)
        rows = zip(angles, images, heat, strict=True)
        return [[Strip(f"{angle:+.3f}", "", heat_maps.draw_heat_map(*pair))] for angle, *pair in rows]

    return explain
