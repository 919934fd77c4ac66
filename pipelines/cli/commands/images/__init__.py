"""Commands for images and their annotations."""
