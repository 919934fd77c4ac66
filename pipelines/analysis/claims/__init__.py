"""Claims: published statements, each a small experiment in one YAML file of `recipes/claims/`."""
