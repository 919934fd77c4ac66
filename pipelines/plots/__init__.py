"""Charts, image grids, annotations and overlays."""
