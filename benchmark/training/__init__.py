"""One training step, and the ways of doing it: eager, compiled, replayed as a CUDA graph."""
