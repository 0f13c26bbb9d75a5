"""The shared networks: the decathlon ResNet-26, library backbones, and weights from outside."""
