"""What an image is: the ten domains, the official release, stand-ins, packing, batches."""
