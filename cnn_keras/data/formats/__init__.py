"""Annotation formats: a reader for each, and a writer where one can be written."""
