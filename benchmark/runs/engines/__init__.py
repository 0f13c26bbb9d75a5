"""Engines: what executes jobs. `local` has processes on this machine."""
