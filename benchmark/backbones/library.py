"""ResNet-18 and ResNet-50 of torchvision and timm, by name, as networks any method can adapt.

Both libraries build v1.5 (the bottleneck's stride is in its 3x3); `_v1` moves it to the first 1x1, as
in He et al. 2015. ResNet-18 has no bottleneck, so v1 and v1.5 are the same network.
"""

from torch import nn

from visual_decathlon.benchmark.config.backbone_names import NAMES
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.layers.network import Network, Site


def library_network(name: str, classes: int) -> Network:
    """Builds `torchvision/...` or `timm/...` with random weights. Raises InputError for another name."""
    if name not in NAMES:
        raise InputError(f"no backbone is called {name!r}; choose resnet26 or one of {', '.join(NAMES)}")
    library, model = name.split("/")
    base = model.removesuffix("_v1")
    if library == "torchvision":
        from torchvision import models

        body = models.get_model(base, weights=None)
        dim = body.fc.in_features
        body.fc = nn.Identity()
    else:
        import timm

        body = timm.create_model(base, pretrained=False, num_classes=0)
        dim = body.num_features
    if model.endswith("_v1"):
        _stride_first(body)
    blocks = [f"body.{name}" for name, module in body.named_modules() if hasattr(module, "conv2")]
    return Network(body, nn.Linear(dim, classes), _sites(body), blocks)


def _stride_first(body: nn.Module) -> None:
    for block in body.modules():
        if hasattr(block, "conv3") and block.conv2.stride == (2, 2):
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def _sites(body: nn.Module) -> list[Site]:
    """Pairs each convolution with its norm: in both libraries' ResNets it is registered right before it."""
    layers = [(n, m) for n, m in body.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    return [
        Site(f"body.{conv}", f"body.{norm}", shortcut="downsample" in conv)
        for (conv, _), (norm, _) in zip(layers[::2], layers[1::2], strict=True)
    ]
