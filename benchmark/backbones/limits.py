"""Size limits of files of weights: a file that declares more is refused before it is read."""

LARGEST = 2**32  # bytes: several times a ResNet-152 with its optimiser's state
LARGEST_HEADER = 100_000_000  # bytes, safetensors' own limit
