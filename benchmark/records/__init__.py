"""Records of runs: their schema, how they are built, their files and folders, provenance, predictions."""
