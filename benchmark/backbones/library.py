"""Any image classifier of torchvision and timm by the library's own name, as a network that methods can adapt.

Both libraries build ResNets v1.5 (the bottleneck's stride is in its 3x3); `resnet50_v1` moves it to the first 1x1, as
in He et al. 2015. A network has random weights: nothing is downloaded.
"""

import difflib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import nn

from visual_decathlon.benchmark.backbones.followed_pass import followed, is_layer
from visual_decathlon.benchmark.backbones.structure import shapes_of_body
from visual_decathlon.benchmark.config.backbone_names import V1, split_name
from visual_decathlon.datasets.errors import InputError, setting
from visual_decathlon.methods.layers.linear import LinearConv
from visual_decathlon.methods.layers.network import Network, Site
from visual_decathlon.methods.shapes import ConvShape, Shapes

GROWN = 7  # an image grows by this part, in whole eights, to see whether a network takes images of other sizes
USUAL = 224  # pixels of a library's images, where it names no other size


def library_network(name: str, classes: int) -> Network:
    """Builds `torchvision/...` or `timm/...` with random weights. Raises InputError for another name.

    Every linear layer that the network calls is a `LinearConv`, which adapters of convolutions adapt too.
    """
    structure = _structure(name)
    body = library_body(name)
    make_adaptable(body, structure.sites)
    head = nn.Linear(structure.shapes.dim, classes)
    return Network(body, head, structure.sites, structure.shapes, partial(library_body, name))


def make_adaptable(body: nn.Module, sites: Iterable[Site]) -> None:
    """Puts a `LinearConv` in the place of each linear layer among the sites of this body."""
    adaptable = {site.conv for site in sites}
    for path, module in list(body.named_modules()):
        if isinstance(module, nn.Linear) and f"body.{path}" in adaptable:
            body.set_submodule(path, LinearConv(module))


class Structure(NamedTuple):
    """What is read of a library's network without its weights."""

    sites: list[Site]
    shapes: Shapes  # at the size of images for which it is made


@cache
def _structure(name: str) -> Structure:
    body = body_without_values(name)
    try:
        return Structure(*shapes_of_body(body, native_size(body)))
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        sentence = f"a pass of one image through its body fails ({_shortened(error)}); name another network"
        raise _refused(name, sentence) from None


@cache
def library_shapes(name: str, size: int | None = None) -> Shapes:
    """The shapes of the network of this name for images of `size` pixels, by default those for which it is made.

    Raises InputError where it does not take images of this size.
    """
    shapes, body = _structure(name).shapes, body_without_values(name)
    size = size or shapes.size
    try:
        followed(body, size)
    except Exception as error:  # whatever the library raises for a size that does not fit
        remedy = f"give another crop=; it is made for {shapes.size} pixels"
        if other := _for_size(name, size):
            remedy = f"give another crop=, or the network's own argument: {setting(f'network={other}')}"
        sentence = f"network={name} does not take images of {size} pixels ({_shortened(error)}); {remedy}"
        raise InputError(sentence, field="settings") from None
    try:
        followed(body, size + 8 * max(1, size // GROWN // 8))
    except Exception:
        return replace(shapes, size=size, any_size=False)
    return replace(shapes, size=size)


def _for_size(name: str, size: int) -> str:
    """The network with an argument that makes it take images of this size; "" where no usual one does."""
    model, _, given = name.removesuffix(")").partition("(")
    for argument in ("img_size", "image_size"):
        other = f"{model}({','.join(filter(None, (given, f'{argument}={size}')))})"
        try:
            _structure(other)
            followed(body_without_values(other), size)
        except Exception:  # it does not take the argument, or still not the images
            continue
        return other
    return ""


def library_body(name: str) -> nn.Module:
    """The network of this name without its classifier, (N, 3, H, W) -> (N, dim).

    Raises InputError for a name that the library does not have, and for arguments that it does not take.
    """
    whole = _whole(name)
    if split_name(name)[0] == "torchvision":  # timm leaves the classifier out where `num_classes` is 0
        whole.set_submodule(head_paths(name)[0], nn.Identity())
    return whole


@cache
def body_without_values(name: str) -> nn.Module:
    """The same on torch's meta device; it is shared by all callers, who read it only. Raises InputError as well."""
    return without_values(partial(library_body, name))


@cache
def head_paths(name: str) -> tuple[str, ...]:
    """The paths of the classifiers in the library's own network, the main one first; () where timm names none."""
    whole = without_values(partial(_whole, name))
    if split_name(name)[0] == "torchvision":
        return (classifier_path(name, whole),)
    heads = (getattr(whole, "pretrained_cfg", None) or {}).get("classifier") or ()
    return (heads,) if isinstance(heads, str) else tuple(heads)


def without_values(make: Callable[[], nn.Module]) -> nn.Module:
    """The module that `make` builds, on torch's meta device. No random number is drawn."""
    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            try:
                return make()
            except InputError:  # some constructors compute with values
                pass
        with torch.device("cpu"):
            return make().to("meta")


def native_size(body: nn.Module) -> int:
    """Side in pixels of the images for which a library's network is made."""
    embedding = getattr(body, "patch_embed", getattr(body, "stem", None))  # a Mixer's is its stem
    patches = getattr(embedding, "img_size", None)
    configured = (getattr(body, "pretrained_cfg", None) or {}).get("input_size", (3, USUAL, USUAL))[-1]
    return patches[0] if isinstance(patches, tuple) else getattr(body, "image_size", configured)


def check_listed(name: str) -> None:
    """Raises InputError, with similar names, where the library lists no classifier of this name."""
    library, asked, _ = split_name(name)
    names = _listed(library)
    if _listed_name(asked) not in names:
        close = difflib.get_close_matches(asked, names, n=3)
        hint = f"did you mean {' or '.join(f'{library}/{c}' for c in close)}?" if close else "see its documentation"
        raise _refused(name, f"{library} has no classifier of that name; {hint}")


def _listed_name(asked: str) -> str:
    return asked.removesuffix("_v1") if asked == V1 else asked


def _whole(name: str) -> nn.Module:
    check_listed(name)
    library, asked, arguments = split_name(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = _built(library, _listed_name(asked), arguments)
    except Exception as error:
        raise _refused(name, f"{library} does not build it ({_shortened(error, 160)}); change its arguments") from None
    if asked == V1:
        _stride_first(whole)
    return whole


@cache
def _listed(library: str) -> list[str]:
    if library == "timm":
        import timm

        return timm.list_models()
    from torchvision import models

    # quantised networks, detectors and networks of video are listed as `quantized_…` and in modules of their own
    return models.list_models(module=models)


def _built(library: str, model: str, arguments: Mapping[str, object]) -> nn.Module:
    if library == "timm":
        import timm

        return timm.create_model(model, pretrained=False, num_classes=0, **arguments)
    from torchvision import models

    extra = {"aux_logits": False, "init_weights": False} if model in ("googlenet", "inception_v3") else {}
    return models.get_model(model, weights=None, **extra, **arguments)


def classifier_path(name: str, whole: nn.Module) -> str:
    """The path of the last layer that a pass calls, which has as many outputs as the network.

    Raises InputError where there is none: the network is then no image classifier that ends in one layer.
    """
    try:
        trace = followed(whole, native_size(whole))
    except Exception as error:
        raise _refused(name, f"a pass of one image fails ({_shortened(error)}); name another network") from None
    outputs = trace.calls[0].result
    last = next((call for call in reversed(trace.calls) if is_layer(trace.modules[call.name])), None)
    if len(outputs) == 1 and outputs[0].ndim == 2 and last is not None:
        layer = whole.get_submodule(last.name)
        if ConvShape.of(layer).cout == outputs[0].shape[1]:
            return last.name
    raise _refused(name, "it does not end in one linear classifier; name a network that does")


def _shortened(error: Exception, length: int = 120) -> str:
    """The beginning of a library's own message, in one line."""
    return " ".join(str(error).split())[:length]


def _refused(name: str, reason: str) -> InputError:
    return InputError(f"network={name}: {reason}", field="settings")


def _stride_first(body: nn.Module) -> None:
    for block in body.modules():
        if hasattr(block, "conv3") and block.conv2.stride == (2, 2):
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
