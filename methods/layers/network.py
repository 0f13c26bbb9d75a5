"""A network of one domain: a shared body, a head, and which of its tensors are the domain's own.

`share` copies the structure and not one tensor, so every domain runs on one storage; `own` gives a
module tensors of its own. A method is a sequence of the two, so nobody greps parameter names.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True)
class Site:
    """One convolution of the backbone and the batch norm behind it, as module paths."""

    conv: str
    norm: str


class Network(nn.Module):
    """`body` maps (N, 3, H, W) images to (N, dim) features, `head` those to (N, classes) logits."""

    def __init__(self, body: nn.Module, head: nn.Linear, sites: Iterable[Site]):
        super().__init__()
        self.body = body
        self.head = head
        self.sites = tuple(sites)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def train(self, mode: bool = True) -> "Network":
        """As nn.Module.train, but a shared batch norm keeps to its stored statistics."""
        super().train(mode)
        for module in self.modules():
            if getattr(module, "shared", False):
                module.eval()
        return self

    def conv_sites(self) -> Iterator[tuple[Site, nn.Module]]:
        """Every site with the module at its convolution's place (maybe already an adapter)."""
        for site in self.sites:
            yield site, self.get_submodule(site.conv)


def _structure(source: Network) -> Network:
    """A copy of the modules in which every tensor is the source's own object."""
    return copy.deepcopy(source, {id(t): t for t in (*source.parameters(), *source.buffers())})


def share(source: Network) -> Network:
    """A copy of the structure in which every tensor is the source's own object, frozen there and here."""
    network = _structure(source)
    network.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.shared = True
    return network.train(source.training)


def own(*modules: nn.Module) -> None:
    """Give the modules (and all below them) trainable tensors of their own, started at the shared ones."""
    for module in (m for root in modules for m in root.modules()):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach().clone())
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.clone()
        if isinstance(module, _BatchNorm):
            module.shared = False


def new_head(network: Network, classes: int) -> None:
    """A fresh trainable linear head (PyTorch's default start, from the global generator)."""
    weight = network.head.weight
    network.head = nn.Linear(weight.shape[1], classes, device=weight.device, dtype=weight.dtype)


def norms(network: Network) -> list[nn.Module]:
    """Every batch norm of the backbone itself, those inside adapters left out."""
    inside = [m for module in network.modules() if isinstance(module, Adapter) for m in module.modules()]
    return [m for m in network.modules() if isinstance(m, _BatchNorm) and all(m is not i for i in inside)]


def start_afresh(module: nn.Module) -> None:
    """Random start of the reference code: convs normal with variance 2 / (k² cout), batch norm 1 and 0."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, _BatchNorm | nn.Linear):
            m.reset_parameters()


class Adapter(nn.Module):
    """Stands where a convolution stood: `conv` is the shared one, the rest the domain's."""

    conv: nn.Conv2d

    def folded(self) -> nn.Conv2d:
        """The one convolution that computes the same in eval mode. Methods that cannot fold lack it."""
        raise AttributeError(f"{type(self).__name__} does not fold into its convolution")


def conv_like(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A frozen convolution of the same geometry with other weights."""
    out = copy.copy(conv)
    out._parameters = {
        "weight": nn.Parameter(weight.detach(), requires_grad=False),
        "bias": None if bias is None else nn.Parameter(bias.detach(), requires_grad=False),
    }
    return out


def own_tensors(network: Network, source: Network) -> dict[str, Tensor]:
    """What a domain must store beside the backbone: name -> tensor that is not one of the source's."""
    theirs = {id(t) for t in (*source.parameters(), *source.buffers())}
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: t for name, t in tensors.items() if id(t) not in theirs}


@torch.no_grad()
def merged(network: Network) -> Network:
    """A bare backbone for inference: adapters folded into their convolutions, those batch norms folded too.

    The network it is made from stays as it was. Raises AttributeError where an adapter cannot fold.
    """
    out = _structure(network).eval()  # not shared: that would freeze what the network trains
    for site, module in list(out.conv_sites()):
        conv = module.folded() if isinstance(module, Adapter) else module
        norm = out.get_submodule(site.norm)
        if isinstance(norm, _BatchNorm):
            conv = fuse_conv_bn_eval(conv, norm)
            out.set_submodule(site.norm, nn.Identity())
        out.set_submodule(site.conv, conv)
    return out
