"""The command line: one file a command, and no command imports another."""
