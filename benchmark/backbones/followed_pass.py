"""One pass of an image through a network on the meta device: its calls, and which tensors depend on which layers."""

import copy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from visual_decathlon.methods.layers.sdpa import ReplacedSdpa, use_sdpa
from visual_decathlon.methods.shapes import SdpaShape


@dataclass
class Call:
    """One call of a module: its path, the tensors it got and gave, and its place in the pass."""

    name: str
    number: int
    given: list[Tensor]
    result: list[Tensor] = field(default_factory=list)
    single: bool = True  # it gave one tensor, and not in a tuple or list
    layers: int = 0  # bits of the convolutions and linear layers whose outputs the result depends on
    span: tuple[int, int] = (0, 0)  # numbers of the pass's operations at its start and at its end


class Pass(TorchDispatchMode):
    """Follows every tensor of a pass: the layers it depends on, and the operations that read it."""

    def __init__(self, modules: dict[str, nn.Module]):
        super().__init__()
        self.modules = modules
        self.stack: list[Call] = []  # the calls that have not ended
        self.calls: list[Call] = []
        self.bits: dict[str, int] = {}  # path of a layer -> its bit, 1, 2, 4, ...
        self.layers_of: dict[int, int] = {}  # id of a tensor -> the sum of the bits of all layers it depends on
        self.readers: dict[int, list[str]] = {}  # id of a tensor -> the modules that read it, an entry an operation
        self.first: dict[int, list[torch.Size]] = {}  # id of a tensor -> shapes of what its first operation gives
        self.between: list[int] = []  # for each operation of a module that has children: how many calls began before it
        self.operations = 0
        self.made: dict[int, int] = {}  # id of a tensor that depends on the image -> the operation that made it
        self.read: dict[int, int] = {}  # id of such a tensor -> the last operation that read it
        self.sdpas: dict[str, SdpaShape] = {}  # path of a module -> its attention by torch's function
        self.kept: list[Tensor] = []  # an id is a tensor's only while it lives

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        here = self.stack[-1].name if self.stack else ""
        given, results = tensors_in((args, kwargs or {})), tensors_in(out)
        mask, shapes = 0, [result.shape for result in results]
        self.operations += 1
        pictured = [id(tensor) for tensor in given if id(tensor) in self.made]
        self.read |= dict.fromkeys(pictured, self.operations)
        for tensor in given:
            mask |= self.layers_of.get(id(tensor), 0)
            self.readers.setdefault(id(tensor), []).append(here)
            self.first.setdefault(id(tensor), shapes)
        if here in self.bits and given:
            mask |= self.bits[here]
        for tensor in results:
            self.layers_of[id(tensor)] = self.layers_of.get(id(tensor), 0) | mask
            self.kept.append(tensor)
            if pictured:
                self.made.setdefault(id(tensor), self.operations)
        if given and [*self.modules[here].children()]:
            self.between.append(len(self.calls))
        return out

    def enter(self, name: str, args: tuple, kwargs: dict) -> None:
        """Before a module's call."""
        module = self.modules[name]
        if is_layer(module):
            self.bits.setdefault(name, 1 << len(self.bits))
        call = Call(name, len(self.calls), tensors_in((args, kwargs)), span=(self.operations, self.operations))
        self.kept += call.given
        if not self.calls:
            self.made |= {id(image): 0 for image in call.given}
        self.calls.append(call)
        self.stack.append(call)

    def sdpa(self, q: Tensor, k: Tensor, v: Tensor, *args, **options) -> Tensor:
        """softmax(q kᵀ) v within the module that was entered last: notes its shape where it is (N, heads, L, c)."""
        if k.ndim == 4:
            name, heads = self.stack[-1].name, k.shape[1]
            count = self.sdpas[name].count + 1 if name in self.sdpas else 1
            self.sdpas[name] = SdpaShape(name, heads, heads * k.shape[-1], heads * v.shape[-1], count)
        return F.scaled_dot_product_attention(q, k, v, *args, **options)

    def leave(self, out) -> None:
        """After the call of the module that was entered last."""
        call = self.stack.pop()
        call.result, call.single = tensors_in(out), isinstance(out, Tensor)
        call.span = (call.span[0], self.operations)
        for tensor in call.result:
            self.kept.append(tensor)
            call.layers |= self.layers_of.get(id(tensor), 0)


def tensors_in(values) -> list[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, tuple | list):
        return []
    return [tensor for value in values for tensor in tensors_in(value)]


def is_layer(module: nn.Module) -> bool:
    """Whether an adapter can replace it: a Conv2d or a Linear that computes as torch's own classes do.

    A convolution that pads or standardises in a `forward` of its own would compute something else with W + ΔW.
    """
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in (nn.Conv2d, nn.Linear))


def followed(body: nn.Module, size: int) -> Pass:
    """One pass of a (1, 3, size, size) image through a copy of the body without values. The body does not change."""
    shadow = copy.deepcopy(body).to("meta").eval()
    use_sdpa(shadow)
    modules = dict(shadow.named_modules())
    trace = Pass(modules)
    for name, module in modules.items():
        module.register_forward_pre_hook(lambda m, a, k, name=name: trace.enter(name, a, k), with_kwargs=True)
        module.register_forward_hook(lambda m, a, out: trace.leave(out))
    with torch.no_grad(), trace, ReplacedSdpa(trace.sdpa):
        shadow(torch.empty(1, 3, size, size, device="meta"))
    return trace
