"""Nouns of convolutional networks: builders, layers, losses, data, in Keras and TensorFlow."""
