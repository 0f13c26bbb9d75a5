"""The library backbones by name, known without loading a library."""

NAMES = tuple(f"{lib}/{net}" for lib in ("torchvision", "timm") for net in ("resnet18", "resnet50", "resnet50_v1"))
