"""Models in other formats than SavedModel, with its signatures; TensorFlow is never imported."""
