"""Losses of embeddings, of segmentation, of mixture densities, of style."""
