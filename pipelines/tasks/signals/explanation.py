"""What the answers of a classifier of signals rest on: Grad-CAM of the likeliest class."""

from pipelines.engine.classification.array_classifier import explainer as explainer
