"""Metrics of classification, detection, segmentation and verification."""
