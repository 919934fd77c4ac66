"""The HTTP face of an exported SavedModel: TensorFlow Serving's REST contract, and a page to try it on."""
