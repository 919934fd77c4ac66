"""Classifiers, of images and of arrays: training, ensembles, reports, export, and pictures of what they have learnt."""
