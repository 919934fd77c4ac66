"""Several hosts that share a training: what the environment says of them, their run, and a try on one machine."""
