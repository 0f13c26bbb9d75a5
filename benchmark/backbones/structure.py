"""The structure of any image classifier, read from one pass on torch's meta device, which computes shapes alone.

Nothing is known of a network by its name: layers are those modules that the pass calls, a convolution's batch norm is
the one that alone reads what it gives, and blocks (`blocks.py`) are the smallest modules of two layers or more that
follow each other.
"""

import copy
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from visual_decathlon.benchmark.backbones.blocks import find_blocks, within
from visual_decathlon.benchmark.backbones.followed_pass import Call, Pass, followed, is_layer
from visual_decathlon.benchmark.backbones.token_grids import token_grids
from visual_decathlon.methods.layers.network import Network, Site, is_norm
from visual_decathlon.methods.shapes import (
    AttentionShape,
    BlockShape,
    ConvShape,
    GridShape,
    NormShape,
    OtherShape,
    Shapes,
)


def shapes_of_body(body: nn.Module, size: int) -> tuple[list[Site], Shapes]:
    """The sites of a body that maps (N, 3, size, size) to (N, dim), and its shapes. Paths begin with `body.`."""
    reading = _Reading(followed(body, size), body)
    return reading.sites(), reading.shapes(size)


def shapes_of(network: Network, size: int = 64) -> Shapes:
    """The shapes of a network that is built and has no adapters, read from its modules."""
    return shapes_of_body(network.body, size)[1]


class _Reading:
    """What one pass tells of the body."""

    def __init__(self, trace: Pass, body: nn.Module):
        self.trace, self.modules = trace, dict(body.named_modules())
        self.calls = {call.name: call for call in reversed(trace.calls)}  # the first call of each module
        self.layers = [name for name in self.modules if name in self.calls and is_layer(self.modules[name])]
        self.blocks = find_blocks(self.modules, self.calls, self.inside)

    def inside(self, name: str) -> list[str]:
        """The layers below a module, in the order of registration."""
        return [layer for layer in self.layers if layer.startswith(f"{name}." if name else "")]

    def _norm(self, conv: str) -> str:
        """The batch norm that alone reads what the convolution gives; "" where there is none."""
        (result,) = self.calls[conv].result
        readers = self.trace.readers.get(id(result), [])
        batch = len(readers) == 1 and isinstance(self.modules[readers[0]], _BatchNorm)
        return readers[0] if batch and self.calls[readers[0]].given[0] is result else ""

    def _shortcut(self, layer: str) -> bool:
        """Whether it is next to its block's main path: no other layer of the block is before it or behind it."""
        block = next((b for b in self.blocks if layer.startswith(f"{b}.")), None)
        if block is None:
            return False
        bits, others = self.trace.bits, [other for other in self.inside(block) if other != layer]
        within = sum(bits[other] for other in others)
        behind = any(self.calls[other].layers & bits[layer] for other in others)
        deep = any(self.calls[a].layers & bits[b] for a in others for b in others if a != b)
        return not behind and not self.calls[layer].layers & within and deep

    def sites(self) -> list[Site]:
        """The convolutions and linear layers with the batch norm behind each, in the order of registration."""
        norms = {layer: self._norm(layer) for layer in self.layers}
        return [
            Site(f"body.{layer}", f"body.{norms[layer]}" if norms[layer] else "", self._shortcut(layer))
            for layer in self.layers
        ]

    def shapes(self, size: int) -> Shapes:
        """The shapes of all layers, blocks and attentions."""
        convs = tuple(
            replace(ConvShape.of(self.modules[layer], f"body.{layer}"), normed=bool(self._norm(layer)))
            for layer in self.layers
        )
        norms = tuple(
            norm_shape(m, f"body.{name}") for name, m in self.modules.items() if name in self.calls and is_norm(m)
        )
        known = {layer.name for layers in (convs, norms) for layer in layers}
        others = tuple(
            OtherShape(f"body.{name}" if name else "body", floats, isinstance(m, _ConvNd | nn.Linear))
            for name, m in self.modules.items()
            if f"body.{name}" not in known and (floats := sum(p.numel() for p in m.parameters(recurse=False)))
        )
        named = known | {other.name for other in others}
        order = [f"body.{call.name}" if call.name else "body" for call in self.trace.calls]
        called = [name for name in dict.fromkeys(order) if name in named]
        rest = [name for name in (other.name for other in others) if name not in called]
        chain = self._chain()
        return Shapes(
            convs=convs,
            norms=norms,
            dim=self.trace.calls[0].result[0].shape[-1],
            block_shapes=self._block_shapes(),
            size=size,
            others=others,
            order=(*called, *rest),
            chain=chain,
            attentions=tuple(filter(None, map(self._attention, dict.fromkeys(call.name for call in self.trace.calls)))),
            sdpas=tuple(replace(sdpa, name=f"body.{name}") for name, sdpa in self.trace.sdpas.items()),
            grids=self._grids(),
            cuts=() if chain else tuple(f"body.{block}" for block in self.blocks if self._cuts(block)),
        )

    def _grids(self) -> tuple[GridShape, ...]:
        """The grids of the blocks that give tokens and of the linear layers in blocks."""
        tokens = [name for name in self.blocks if self._tokens(name)]
        linear = [name for name in self.layers if ConvShape.of(self.modules[name]).linear]
        calls = {n: (call.result[0].shape, call.number) for n, call in self.calls.items() if n and call.result}
        grids = token_grids(self.modules[""], calls, self.blocks, linear)
        kept = {f"body.{name}" for name in (*tokens, *linear)}
        return tuple(grid for grid in grids if grid.name in kept)

    def _tokens(self, block: str) -> bool:
        """Whether channels are the last axis of what a block gives."""
        out, last = self.calls[block].result[0], self.inside(block)[-1]
        shape, of_last = ConvShape.of(self.modules[last]), self.calls[last].result[0]
        if not shape.linear and of_last.shape[2:] == out.shape[2:]:  # a part of the channels may be as many as pixels
            return False
        return out.ndim == 3 or (out.ndim == 4 and out.shape[-1] == shape.cout != out.shape[1])

    def _reads_last(self, block: str, given: Tensor, tokens: bool) -> bool:
        """Whether channels are the last axis of what a block reads: the first layer or norm inside has as many."""
        if given.ndim != 4:
            return given.ndim == 3
        inside = (self.calls[name] for name in self.modules if within(name, block) and name in self.calls)
        for call in sorted(inside, key=lambda call: call.number):
            module = self.modules[call.name]
            if not is_layer(module) and not is_norm(module):
                continue
            channels = ConvShape.of(module).cin if is_layer(module) else norm_shape(module).channels
            second, end = (channels == given.shape[axis] for axis in (1, -1))
            if second != end:
                return end
            if second and is_layer(module):  # as many channels as pixels
                return isinstance(module, nn.Linear)
        return tokens

    def _cuts(self, block: str) -> bool:
        """Whether all that follows a block's start knows the image only through the one tensor that the block reads."""
        call, trace = self.calls[block], self.trace
        if len(call.given) != 1 or len(call.result) != 1:
            return False
        start, end = call.span
        late = [i for i, made in trace.made.items() if made <= start < trace.read.get(i, 0)]
        return all(i == id(call.given[0]) and trace.read[i] <= end for i in late)

    def _block_shapes(self) -> tuple[BlockShape, ...]:
        shapes, stage, last = [], -1, None
        for name in self.blocks:
            call, layers = self.calls[name], self.inside(name)
            out, given = call.result[0], call.given[0] if len(call.given) == 1 else None
            tokens = self._tokens(name)
            reads_last = tokens if given is None else self._reads_last(name, given, tokens)
            stage += last != out.shape
            last = out.shape
            cin = ConvShape.of(self.modules[layers[0]]).cin if given is None else given.shape[-1 if reads_last else 1]
            end = max((n for n in layers if not self._shortcut(n)), key=lambda n: self.calls[n].number)
            behind = f"body.{self._norm(end) or end}"
            width = ConvShape.of(self.modules[end]).cout
            more, simple = tokens and self._takes_more(name), reads_last == tokens and self._simple(call, cin)
            shapes.append(
                BlockShape(
                    f"body.{name}",
                    cin=cin,
                    cout=out.shape[-1 if tokens else 1],
                    stage=stage,
                    last=behind,
                    width=width,
                    tokens=tokens,
                    any_length=more,
                    simple=simple,
                    single=call.single,
                )
            )
        return tuple(shapes)

    def _simple(self, call: Call, cin: int) -> bool:
        """Whether a block's call maps one tensor, or a list of maps that it joins, to one of as many tokens.

        Some code computes with windows of an image as if they were images.
        """
        if len(call.result) != 1 or not call.single or not call.given or call.result[0].shape[0] != 1:
            return False
        out, maps = call.result[0], {(t.ndim, *t.shape[2:]) for t in call.given}
        if out.ndim == 3:
            return len(call.given) == 1 and call.given[0].shape[1] == out.shape[1]
        joined = len(maps) == 1 and out.ndim == 4 and sum(t.shape[1] for t in call.given) == cin
        return out.ndim == 4 == call.given[0].ndim and (len(call.given) == 1 or joined)

    def _takes_more(self, name: str) -> bool:
        """Whether a block maps tokens (N, L, C) alone to as many, and does so with one token more."""
        given, result = self.calls[name].given, self.calls[name].result
        if len(given) != 1 or len(result) != 1 or given[0].ndim != 3 or given[0].shape != result[0].shape:
            return False
        count, length, channels = given[0].shape
        block = copy.deepcopy(self.modules[name]).to("meta").eval()
        try:
            with torch.no_grad():
                out = block(torch.empty(count, length + 1, channels, device="meta"))
        except Exception:  # whatever the library raises for a number of tokens that does not fit
            return False
        return isinstance(out, Tensor) and out.shape == (count, length + 1, channels)

    def _chain(self) -> bool:
        """Whether every operation up to the last block's input is inside a leaf or a block, one behind the other."""
        if not self.blocks:
            return False
        within = tuple(f"{block}." for block in self.blocks)
        top = [
            call
            for call in self.trace.calls[1:]
            if call.name in self.blocks
            or (not [*self.modules[call.name].children()] and not call.name.startswith(within))
        ]
        until = self.calls[self.blocks[-1]].number
        steps = [call for call in top if call.number <= until]
        single = all(len(call.given) == 1 == len(call.result) for call in steps)
        linked = single and all(a.result[0] is b.given[0] for a, b in pairwise(steps))
        spans = [range(self.calls[b].number, self._end(b)) for b in self.blocks]
        free = [n for n in self.trace.between if 0 < n <= until + 1 and not any(n - 1 in span for span in spans)]
        return linked and single and not free and steps[0].given[0] is self.trace.calls[0].given[0]

    def _end(self, block: str) -> int:
        return max(call.number for call in self.trace.calls if f"{call.name}.".startswith(f"{block}.")) + 1

    def _attention(self, name: str) -> AttentionShape | None:
        """The attention of a module with a fused projection `qkv`, an output projection and a number of heads."""
        module = self.modules[name]
        qkv, proj = f"{name}.qkv", f"{name}.proj"
        if not {qkv, proj} <= set(self.layers) or not isinstance(getattr(module, "num_heads", None), int):
            return None
        fused, out = (ConvShape.of(self.modules[layer]) for layer in (qkv, proj))
        if not fused.linear or not out.linear or fused.cout != 3 * out.cin:
            return None
        paths = (f"body.{name}", f"body.{qkv}", f"body.{proj}")
        made = self.trace.first.get(id(self.calls[qkv].result[0]), [])
        apart = _in_thirds(made, out.cin, module.num_heads)
        gives = out.cout * self.calls[name].single
        return AttentionShape(*paths, fused.cin, out.cin, module.num_heads, self._mlp(name), apart, gives)

    def _mlp(self, attention: str) -> tuple[str, str, str]:
        """The sibling that is called behind the attention and has two linear layers: its path, and theirs."""
        parent = attention.rpartition(".")[0]
        for call in self.trace.calls[self.calls[attention].number :]:
            if call.name.rpartition(".")[0] != parent or call.name == attention:
                continue
            layers = self.inside(call.name)
            if len(layers) == 2 and all(ConvShape.of(self.modules[layer]).linear for layer in layers):
                return f"body.{call.name}", f"body.{layers[0]}", f"body.{layers[1]}"
        return "", "", ""


def _in_thirds(made: list[torch.Size], inner: int, heads: int) -> bool:
    """Whether a fused projection's outputs are queries, keys and values one behind the other, each of all heads.

    `made` has the shapes of what the first operation makes of (..., 3 inner): three parts (..., inner), or axes
    (..., 3, heads, inner / heads). TinyViT's (..., heads, 3 inner / heads) has the three of each head together.
    """
    if len(made) == 3:
        return all(shape[-1] == inner for shape in made)
    return len(made) == 1 and tuple(made[0][-3:]) == (3, heads, inner // heads)


def norm_shape(norm: nn.Module, name: str = "") -> NormShape:
    """Channels and parts of a norm."""
    parts = dict(norm.named_parameters(recurse=False))
    channels = next((p.numel() for p in parts.values()), getattr(norm, "num_features", 0))
    return NormShape(channels, name, isinstance(norm, _BatchNorm), "weight" in parts, "bias" in parts)
