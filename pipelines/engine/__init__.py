"""What runs a recipe: stages, fingerprints, the training loop, transfer learning, tuning."""
