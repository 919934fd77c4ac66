"""The training loop: optimizers, transfer learning, and how fast the input is."""
