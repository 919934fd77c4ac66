"""Sources of examples: what a recipe names by `data.source`."""
