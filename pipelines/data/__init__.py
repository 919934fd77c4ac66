"""What every prepare does: validate, split, record."""
