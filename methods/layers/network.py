"""The network of one domain: a shared body, a head, and which tensors belong to the domain alone.

`share` copies the structure but no tensor, so all domains run on one storage; `own` gives a module its own tensors.
A method is a sequence of the two, so no code has to match parameter names.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from visual_decathlon.methods.layers.adapter import Adapter
from visual_decathlon.methods.shapes import Shapes

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class Site:
    """One convolution or linear layer of the backbone and the batch norm that alone reads it, as module paths."""

    conv: str
    norm: str  # "" where there is none
    shortcut: bool = False  # on a block's shortcut, not on its main path


class Network(nn.Module):
    """`body` maps (N, 3, H, W) images to (N, dim) features, `head` those to (N, classes) logits.

    `sites` are its convolutions and linear layers in order, `shapes` the shapes of all its layers as they are without
    adapters, `blocks` the module paths of its blocks. `aids` holds modules that a method needs only in training: they
    are trained and resumed, but neither stored nor counted. `new_body` builds a body with its library's random start.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Linear,
        sites: Iterable[Site],
        shapes: Shapes,
        new_body: Callable[[], nn.Module] | None = None,
    ):
        super().__init__()
        self.body = body
        self.head = head
        self.aids = nn.ModuleDict()
        self.sites = tuple(sites)
        self.shapes = shapes
        self.blocks = shapes.blocks
        self.new_body = new_body

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images -> (N, classes) logits."""
        return self.head(self.body(x))

    def for_size(self, size: int) -> "Network":
        """The same modules and tensors (not copies), for images of another side in pixels."""
        other = copy.copy(self)
        other.shapes = replace(self.shapes, size=size)
        return other

    def train(self, mode: bool = True) -> "Network":
        """As nn.Module.train, but shared modules stay in eval mode: a shared batch norm uses its stored statistics."""
        super().train(mode)
        for module in self.modules():
            if stays_in_eval(module):
                module.eval()
        return self

    def conv_sites(self) -> Iterator[tuple[Site, nn.Module]]:
        """Yields every site with the module at its convolution's path, which may already be an adapter."""
        for site in self.sites:
            yield site, self.get_submodule(site.conv)


def move_sites(network: Network, moved: Callable[[str], str]) -> None:
    """Renames the paths of the sites where modules were put around them; `moved` maps a path to its new one."""
    network.sites = tuple(replace(s, conv=moved(s.conv), norm=moved(s.norm)) for s in network.sites)


def keep_in_eval(module: nn.Module, keep: bool = True) -> None:
    """Marks a module that `Network.train` leaves in eval mode, or with `keep=False` unmarks it."""
    module.shared = keep


def stays_in_eval(module: nn.Module) -> bool:
    """Whether `Network.train` leaves this module in eval mode."""
    return getattr(module, "shared", False)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module, by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def copied(module: _Module, tensors: Mapping[str, Tensor] = MappingProxyType({})) -> _Module:
    """A copy of the modules with `tensors` replacing those of the same names; every other tensor is the same object."""
    own = tensors_of(module)
    return copy.deepcopy(module, {id(own[name]): tensors.get(name, own[name]) for name in own})


def share(source: Network) -> Network:
    """A copy of the structure whose tensors are the source's own objects. It freezes them, in the source too."""
    network = copied(source)
    network.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            keep_in_eval(module)
    network.train(source.training)
    return network


def own(*modules: nn.Module) -> None:
    """Gives the modules and all their submodules their own trainable tensors, initialised with the shared values."""
    for root in modules:
        for module in root.modules():
            own_layer(module)


def own_layer(module: nn.Module) -> None:
    """Gives this module its own trainable tensors, those of its submodules apart, which stay as they are.

    Of buffers it gets a batch norm's statistics: those of other modules are constants.
    """
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = nn.Parameter(parameter.detach().clone())
    if isinstance(module, _BatchNorm):
        module._buffers |= {name: buffer.clone() for name, buffer in module._buffers.items() if buffer is not None}
        keep_in_eval(module, False)


def new_head(network: Network, classes: int) -> None:
    """Sets a fresh trainable linear head (PyTorch's default initialisation, from the global generator)."""
    weight = network.head.weight
    network.head = nn.Linear(weight.shape[1], classes, device=weight.device, dtype=weight.dtype)


def is_norm(module: nn.Module) -> bool:
    """Whether it normalises: a batch, layer, group or RMS norm, with or without an activation of its own.

    timm's RmsNorm and RmsNorm2d are modules of their own, and not torch's RMSNorm.
    """
    known = isinstance(module, _BatchNorm | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm)
    return known or any(kind.__name__ in ("RmsNorm", "RmsNorm2d") for kind in type(module).__mro__)


def norms(network: Network) -> list[nn.Module]:
    """Every batch norm of the backbone itself, without those inside adapters."""
    return [network.get_submodule(name) for name in names_of(network, _BatchNorm)]


def share_norms(network: Network, source: Network) -> None:
    """Puts the source's batch norms, frozen and in eval mode, back in the place of the domain's own."""
    shared = share(source)
    for name in names_of(network, _BatchNorm):
        network.set_submodule(name, shared.get_submodule(name))


def start_afresh(module: nn.Module) -> None:
    """Initialises as the reference code: convolutions normal with variance 2 / (k² cout), batch norm 1 and 0."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, _BatchNorm | nn.Linear):
            m.reset_parameters()


@torch.no_grad()
def start_body_afresh(network: Network) -> None:
    """Initialises a body that is the network's own: `start_afresh`, or the library's own start.

    The latter where it has more than convolutions and batch norms: how tokens, embeddings and linear layers start
    belongs to the network.
    """
    if network.new_body is None or not network.shapes.has_other_layers:
        start_afresh(network.body)
        return
    own = tensors_of(network.body)
    for name, tensor in tensors_of(network.new_body()).items():
        if name in own:
            own[name].copy_(tensor.view(own[name].shape))


def names_of(network: Network, kind: type) -> list[str]:
    """Paths of the backbone's own modules of this kind, without those inside adapters."""
    inside = {id(m) for module in network.modules() if isinstance(module, Adapter) for m in module.modules()}
    return [name for name, m in network.named_modules() if isinstance(m, kind) and id(m) not in inside]


def conv_like(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A frozen convolution of the same geometry with other weights."""
    out = copy.copy(conv)
    out._parameters = {
        "weight": nn.Parameter(weight.detach(), requires_grad=False),
        "bias": None if bias is None else nn.Parameter(bias.detach(), requires_grad=False),
    }
    return out


def norm_like(norm: _BatchNorm, weight: Tensor, bias: Tensor) -> _BatchNorm:
    """A frozen batch norm with the same statistics and other affine values."""
    out = copy.copy(norm)
    out._parameters = {
        "weight": nn.Parameter(weight.detach(), requires_grad=False),
        "bias": nn.Parameter(bias.detach(), requires_grad=False),
    }
    out._buffers = dict(norm._buffers)
    return out


def own_tensors(network: Network, source: Network) -> dict[str, Tensor]:
    """Tensors that training a domain changes: name -> tensor that is not one of the source's."""
    shared = {id(t) for t in tensors_of(source).values()}
    return {name: t for name, t in tensors_of(network).items() if id(t) not in shared}


def packers(network: Network) -> dict[str, Adapter]:
    """By path, the adapters that store other tensors than they compute with: those that define `unpacked`."""
    adapters = {name: m for name, m in network.named_modules() if isinstance(m, Adapter)}
    return {name: m for name, m in adapters.items() if type(m).unpacked is not Adapter.unpacked}


def stored_tensors(network: Network, source: Network) -> dict[str, Tensor]:
    """Tensors a domain stores in addition to the backbone: its own ones without the training aids, masks as bits."""
    persistent = network.state_dict().keys()
    packing = packers(network)
    within = tuple(f"{name}." for name in packing)
    out = {
        name: t.detach()
        for name, t in own_tensors(network, source).items()
        if name in persistent and not name.startswith(("aids.", *within))
    }
    for path, adapter in packing.items():
        out |= {f"{path}.{name}": t.detach() for name, t in adapter.stored().items()}
    return out


def below(path: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the module at this path, named as the module names them."""
    return {name.removeprefix(f"{path}."): t for name, t in tensors.items() if name.startswith(f"{path}.")}


@torch.no_grad()
def restore(network: Network, source: Network, tensors: dict[str, Tensor]) -> str:
    """Copies stored tensors into a placed network; returns a message on the first that does not fit, or "".

    Nothing is copied unless everything fits.
    """
    expected = stored_tensors(network, source)
    if odd := sorted(expected.keys() ^ tensors.keys()):
        return f"{'lacks' if odd[0] in expected else 'has the unknown'} {odd[0]}"
    packing = packers(network)
    for name, t in expected.items():
        path, _, last = name.rpartition(".")
        fits = t.shape == tensors[name].shape or (
            path in packing and packing[path].may_store(last, tensors[name].shape)
        )
        if not fits or t.dtype != tensors[name].dtype:
            given, needed = (f"{tuple(v.shape)} in {str(v.dtype).removeprefix('torch.')}" for v in (tensors[name], t))
            return f"has {name} of shape {given} where {needed} belongs"
    within = tuple(f"{name}." for name in packing)
    for name, t in own_tensors(network, source).items():
        if name in tensors and not name.startswith(within):
            t.copy_(tensors[name])
    for path, adapter in packing.items():  # after the plain tensors, which a shared trunk's may be unpacked with
        own = tensors_of(adapter)
        device = next(iter(own.values())).device
        packed = {name: t.to(device) for name, t in below(path, tensors).items()}
        for name, t in adapter.unpacked(packed).items():
            own[name].copy_(t)
    return ""


@torch.no_grad()
def merge_for_inference(network: Network, fuse: bool = True) -> Network:
    """The plain backbone for inference: every adapter merged into the module that it replaced.

    With `fuse` each batch norm after a convolution is merged into it too. `network` itself does not change.
    Raises AttributeError where an adapter cannot merge.
    """
    out = copied(network).eval()  # not `share`, which would freeze the tensors that the network trains
    out.aids = nn.ModuleDict()
    adapters = [name for name, module in out.named_modules() if isinstance(module, Adapter)]
    for name in adapters:
        if not name.startswith(tuple(f"{other}." for other in adapters)):  # one within another merges with it
            out.set_submodule(name, out.get_submodule(name).merge())
    for site in (site for site in out.sites if site.norm and fuse):
        conv, norm = out.get_submodule(site.conv), out.get_submodule(site.norm)
        if isinstance(norm, _BatchNorm):
            out.set_submodule(site.norm, behind_norm(norm))
            out.set_submodule(site.conv, fuse_conv_bn_eval(conv, norm))
    return out


def behind_norm(norm: nn.Module) -> nn.Module:
    """What a batch norm does behind its normalisation: timm's have an activation of their own; else the identity."""
    parts = [part for part in norm.children() if not isinstance(part, nn.Identity)]
    return nn.Sequential(*parts) if parts else nn.Identity()


@torch.no_grad()
def exported(network: Network) -> dict[str, Tensor]:
    """The merged network as the body's plain state dict, which its own library loads, and `fc.weight`, `fc.bias`.

    A bias that merging adds to a convolution without one moves into the batch norm after it. A layer without a bias
    and without a batch norm has no place for it: the key is then one more than the library's layer has.
    """
    plain = merge_for_inference(network, fuse=False)
    for site, module in network.conv_sites():
        conv = plain.get_submodule(site.conv)
        original = next(m for m in module.modules() if isinstance(m, nn.Conv2d))  # an adapter's own, or the layer
        if conv.bias is not None and original.bias is None and site.norm:
            norm = norm_like(plain.get_submodule(site.norm), *plain.get_submodule(site.norm).parameters())
            norm._buffers["running_mean"] = norm.running_mean - conv.bias
            plain.set_submodule(site.norm, norm)
            plain.set_submodule(site.conv, conv_like(conv, conv.weight, None))
    linear = {f"{name}.weight" for name, m in plain.body.named_modules() if getattr(m, "linear", False)}
    tensors = {
        name: (t.flatten(1) if name in linear else t).detach().contiguous()
        for name, t in plain.body.state_dict().items()
    }
    return tensors | {f"fc.{name}": t.detach() for name, t in plain.head.state_dict().items()}
