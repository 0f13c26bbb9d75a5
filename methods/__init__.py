"""What is trained: the registry, one small file per method family, placement on a backbone."""
