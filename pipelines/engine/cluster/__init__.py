"""Ray: a cluster that does the tasks of `prepare` and `predict`, the trials of `tune` and the hosts of `train`."""
