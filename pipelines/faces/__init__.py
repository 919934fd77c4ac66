"""A gallery of people, and who is on a photograph."""
