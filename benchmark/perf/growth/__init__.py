"""How cost grows: with width, image size, batch, classes, domains held at once, images packed, methods run."""
