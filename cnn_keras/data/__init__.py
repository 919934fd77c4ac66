"""From files to batches: read, decode, augment, batch, records."""
