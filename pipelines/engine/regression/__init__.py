"""Networks that answer with numbers: what the tasks `regress` and `steer` share."""
