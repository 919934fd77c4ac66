"""Analyses of networks, runs and data: what commands draw and print besides the four stages."""
