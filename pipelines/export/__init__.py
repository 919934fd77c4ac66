"""Exported models: SavedModels, and networks of other frameworks brought in."""
