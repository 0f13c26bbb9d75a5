"""What is trained: the registry, one small file per method family, placement on a backbone."""

if __name__ == "methods":
    from visual_decathlon.datasets.old_names import moved

    raise moved(__name__)
