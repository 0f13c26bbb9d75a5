"""What an image is: the ten domains, the official release, stand-ins, packing, batches."""

if __name__ == "datasets":  # a checkout on the path, and somebody who means Hugging Face's
    from visual_decathlon.datasets.old_names import import_next

    import_next(__name__, __file__)
