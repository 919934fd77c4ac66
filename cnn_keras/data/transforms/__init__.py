"""Augmentations, and their compilation into one warp of the image."""
