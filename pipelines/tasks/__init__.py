"""One file per task; each has Recipe, prepare, train, evaluate and export."""
