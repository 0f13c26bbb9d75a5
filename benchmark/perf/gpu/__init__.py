"""`make gpu`: tests and measurements for a machine with a GPU, one process a step, results kept as they come."""
