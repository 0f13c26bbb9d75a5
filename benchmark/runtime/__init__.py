"""The process and its device: devices, precision, threads, memory, signals, progress."""
