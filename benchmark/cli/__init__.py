"""The command line: one module for each command, with `add_arguments` and `run`; no command imports another."""
