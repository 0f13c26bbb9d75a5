"""The training loop and all it needs: steps (eager, compiled, CUDA graph), rates, checkpoints, timing, evaluation."""
