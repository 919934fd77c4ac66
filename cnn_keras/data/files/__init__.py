"""Files from users, opened and checked, and files that survive a power cut. Needs no TensorFlow."""
