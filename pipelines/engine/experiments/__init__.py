"""Trainings beside the train stage: dry run, learning-rate finder, search for settings, cross-validation."""
