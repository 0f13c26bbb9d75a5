"""Modules trained over all domains at once: networks on one set of shared weights, and a domain classifier."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.layers.linear import inner_of
from visual_decathlon.methods.layers.network import Network, new_head, norms, own, share


class JointModule(nn.Module):
    """A network for each domain of `classes` (name -> number), all on the one network `trunk`, which they share.

    Maps (name, x) to that domain's logits. A subclass sets `trunk` and gives `_placed`.
    """

    trunk: Network

    def place_all(self, classes: Mapping[str, int]) -> None:
        """Sets `networks` to a network for each domain."""
        self.networks = nn.ModuleDict()
        for name, count in classes.items():
            self.networks[name] = self.place(count)

    def place(self, classes: int) -> Network:
        """Network of one more domain on the trunk, with `classes` classes."""
        trained = [p for p in self.trunk.parameters() if p.requires_grad]
        network = self._placed(classes)
        for p in trained:  # `share` froze them
            p.requires_grad_(True)
        return network

    def _placed(self, classes: int) -> Network:
        """What `place` returns; it may freeze the trunk."""
        raise NotImplementedError

    def forward(self, batch: tuple[str, Tensor]) -> Tensor:
        """(name, x (N, 3, H, W)) -> (N, classes) logits of that domain."""
        name, x = batch
        return self.networks[name](x)


class JointNetwork(JointModule):
    """The trunk is a trained copy of the source's convolutions; each domain has a copy of the series adapters."""

    def __init__(self, source: Network, classes: Mapping[str, int]):
        super().__init__()
        self.trunk = share(source)  # the convolutions that all of them share
        own(*self._convs())
        self.place_all(classes)

    def _convs(self) -> list[nn.Module]:
        modules = (inner_of(m) for _, m in self.trunk.conv_sites())
        return [m.conv if isinstance(m, Adapter) else m for m in modules]

    def _placed(self, classes: int) -> Network:
        network = share(self.trunk)
        for _, module in network.conv_sites():
            own(inner_of(module).norm, inner_of(module).mix)
        own(*norms(network))
        new_head(network, classes)
        return network


class JointAdapters(JointModule):
    """The trunk is the frozen network and holds what the adapters of all domains share, trained or not.

    `placed(trunk, number of classes)` gives a domain's network.
    """

    def __init__(self, trunk: Network, classes: Mapping[str, int], placed: Callable[[Network, int], Network]):
        super().__init__()
        self.trunk, self._place = trunk, placed
        self.place_all(classes)

    def _placed(self, classes: int) -> Network:
        return self._place(self.trunk, classes)


class DomainClassifier(nn.Module):
    """Predicts the domain: (N, 3, H, W) images in 0 to 1 -> (N, domains) logits."""

    def __init__(self, widths: Sequence[int], domains: int):
        super().__init__()
        layers, before = [], 3
        for width in widths:
            stride = 2 if layers and width > before else 1
            layers += [nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True)]
            before = width
        for conv in layers[::3]:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(before, domains)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images in 0 to 1 -> (N, domains) logits."""
        return self.head(self.layers(4 * images - 2).mean(dim=(2, 3)))


class DomainRoutedNetwork(nn.Module):
    """A domain's network behind `classifier`, which predicts the domain, for evaluation.

    It gives (N, classes + 1) logits. The last class, which is no image's label, wins where the classifier assigns
    the image to another domain. x is normalised by `mean` and `std`; the classifier gets the image before
    normalisation, its centre `size` pixels, for every crop of the domain.
    """

    def __init__(
        self,
        network: nn.Module,
        classifier: DomainClassifier,
        index: int,
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
    ):
        super().__init__()
        self.network, self.classifier, self.index, self.size = network, classifier, index, size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W), normalised -> (N, classes + 1) logits."""
        logits = self.network(x)
        top, left = (x.shape[2] - self.size) // 2, (x.shape[3] - self.size) // 2
        centre = x[:, :, top : top + self.size, left : left + self.size]
        elsewhere = self.classifier(centre * self.std.to(x) + self.mean.to(x)).argmax(1) != self.index
        far = torch.finfo(logits.dtype).max
        return torch.cat([logits, torch.where(elsewhere, far, -far).to(logits)[:, None]], 1)
