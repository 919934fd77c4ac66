"""Published weights: where they are, and readers of the formats that they come in."""
