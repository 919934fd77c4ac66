"""What the units of a trained network have learnt to see, and what a decision was made of.

Works on functional and sequential models for images, channels last, also on one that holds another – a classifier
behind its normalisation; Grad-CAM on those for signals and volumes too, and with several inputs and outputs. Images go
in as the outer model takes them, uint8 0–255 from a run; layers are named inside, `c3`, and where two layers share a
name by their path, `network/c3`. A layer that is called several times shows its last call.
"""

from cnn_keras.learn.visualization.activation_maximization import MaximizedImages, maximize_activation
from cnn_keras.learn.visualization.exciting_patches import Patches, exciting_patches
from cnn_keras.learn.visualization.filters import first_layer_filters
from cnn_keras.learn.visualization.heat_maps import class_logit, grad_cam, mask_logits, visual_backprop
from cnn_keras.learn.visualization.layer_selection import (
    bottleneck_layer,
    feature_layers,
    grad_cam_layer,
    layer_name,
    layer_row,
    logits_layer,
    spatial_layers,
)
from cnn_keras.learn.visualization.occlusion import occlusion_map
from cnn_keras.learn.visualization.taps import feature_maps

__all__ = [
    "MaximizedImages",
    "Patches",
    "bottleneck_layer",
    "class_logit",
    "exciting_patches",
    "feature_layers",
    "feature_maps",
    "first_layer_filters",
    "grad_cam",
    "grad_cam_layer",
    "layer_name",
    "layer_row",
    "logits_layer",
    "mask_logits",
    "maximize_activation",
    "occlusion_map",
    "spatial_layers",
    "visual_backprop",
]
