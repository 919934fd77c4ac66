"""The REST API of TensorFlow Serving: from the body of a request to tensors, and from tensors to a response."""
