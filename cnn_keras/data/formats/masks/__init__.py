"""Formats of masks: files whose pixels or voxels are numbers or colours of classes, or a file for each thing."""
