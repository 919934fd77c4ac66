"""Commands for recipes and their runs."""
