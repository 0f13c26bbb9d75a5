"""The process and its device: kinds of devices, precision, threads, memory, signals, progress."""
