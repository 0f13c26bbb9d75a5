"""Names the backbones that a request needs, and the reasons why a method cannot run on them."""

from visual_decathlon.benchmark.backbones.shapes import shapes_named
from visual_decathlon.benchmark.config.identity import digest
from visual_decathlon.benchmark.config.profiles import Profile
from visual_decathlon.benchmark.config.specs import Backbone
from visual_decathlon.benchmark.runs.data import Data
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.datasets.errors import option
from visual_decathlon.methods.method import Method


def requested_backbones(request: Request, data: Data, width_multiplier: float = 1.0) -> dict[str, Backbone]:
    """The backbones by structure: the user's, or a plain and a series one that are pretrained on imagenet12."""
    common = {"profile": request.profile, "cache": request.cache / "backbones"}
    if (given := request.user_backbone) is not None:
        source = f"{given.name} {digest(**given.weight_hashes)[:8]}"  # a file may change and keep its name
        return {
            structure: Backbone(**common, structure=structure, source=source, content=content)
            for structure, content in given.weight_hashes.items()
        }
    common |= {"source": "pretrained", "images": data.pretraining, "width_multiplier": width_multiplier}
    return {structure: Backbone(**common, structure=structure) for structure in ("plain", "series")}


def lower_rates(profile: Profile) -> bool:
    """Whether methods have lower learning rates on the profile's network than on ResNets.

    So it is on transformers and MLPs of tokens, and where batch norms follow depthwise convolutions.
    """
    shapes = shapes_named(profile.network, profile.width, profile.crop)
    return shapes.of_tokens or any(conv.depthwise and conv.normed for conv in shapes.convs)


def unsupported_reason(request: Request, method: Method) -> str:
    """Why a method cannot run as asked, in one sentence; "" where it can."""
    if sentence := method.unsupported_reason(request.profile.network):
        return sentence
    if request.profile.compile and (method.has_joint_stage or method.classifies_domains or not method.compiles):
        what = f"torch.compile does not support the training step of {method.name}"
        return f"{option('settings')}compile=true: {what}; leave it out"
    if request.user_backbone is not None:
        return _missing_in_user_backbone(request, method)
    if method.width_multiplier != 1 and request.profile.network != "resnet26":
        return f"{method.name} needs a wider backbone, and {request.profile.network} has one width; use resnet26"
    return ""


def _missing_in_user_backbone(request: Request, method: Method) -> str:
    """A sentence on the first thing that the method needs and BACKBONE= lacks; "" where it lacks nothing."""
    given = request.user_backbone
    if method.needs_head and given.headless:
        return (
            f"{method.name} needs the head of the backbone, and {option('backbone')}{given.name} has none; "
            "give weights with the head that they were trained with"
        )
    if method.width_multiplier != 1:
        return (
            f"{method.name} needs a backbone {method.width_multiplier:g} times as wide as the others', and "
            f"{option('backbone')}{given.name} holds none; leave {option('backbone')} out to pretrain it on imagenet12"
        )
    if method.backbone_structure in given.weight_hashes:
        return ""
    if method.backbone_structure == "series":
        return (
            f"{option('backbone')}{given.name} holds no network pretrained with series adapters in it, which "
            f"{method.name} needs; add one to the folder, or ask for res_adapter(init='zero', off_the_shelf=True)"
        )
    return f"{option('backbone')}{given.name} holds no plain network, which {method.name} needs; add one"
