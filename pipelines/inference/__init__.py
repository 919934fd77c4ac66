"""Predictions of exported models about files and folders."""
