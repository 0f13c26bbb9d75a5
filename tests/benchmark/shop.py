"""Backbones in a cache and adapter files on them, without training: for tests of serving."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from visual_decathlon.benchmark.backbones.build import build
from visual_decathlon.benchmark.backbones.safetensors_file import write_safetensors
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.benchmark.config.specs import Backbone, ImageSet, JointTraining, Run
from visual_decathlon.benchmark.runs.execute import write_adapters
from visual_decathlon.benchmark.runs.user_backbone import read_user_backbone
from visual_decathlon.benchmark.training import pretrain
from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.methods.layers.network import Network, restore, stored_tensors
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select

SLIM = ("width=0.125",)
CLASSES = {"dtd": 5, "svhn": 7}


def images(name: str) -> ImageSet:
    """An image set of the domain without packs."""
    return ImageSet(DOMAINS[name], (), "all", "", CLASSES[name], None, 1)


def batch() -> torch.Tensor:
    """(6, 3, 32, 32) images of noise, the same in every test."""
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def moved(network: nn.Module) -> None:
    """Change every trained tensor and the domain's statistics, as training would."""
    for p in network.parameters():
        if p.requires_grad:
            p.add_(0.05 * torch.randn_like(p))
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and not getattr(m, "shared", False)):
        norm.running_mean.add_(0.1 * torch.randn_like(norm.running_mean))
        norm.running_var.mul_(1.5)


class Shop:
    """Makes backbones in a cache, as BACKBONE= does, and adapter files of domains on them; nothing is trained."""

    def __init__(self, root: Path):
        self.root, self.cache = root, root / "cache"
        self.backbones: dict[str, Backbone] = {}

    def backbone(self, structure: str) -> Backbone:
        """The backbone of this structure, made at the first call."""
        if structure not in self.backbones:
            torch.manual_seed(len(structure))
            network = build(profile("standin", SLIM), structure, 3)
            moved(network)
            save_file(dict(network.state_dict()), self.root / f"{structure}.safetensors")
            given = read_user_backbone(
                self.root / f"{structure}.safetensors", profile("standin", SLIM), SLIM, self.cache
            )
            self.backbones[structure] = Backbone(
                given.profile, structure, given.name, self.cache / "backbones", content=given.weight_hashes[structure]
            )
        return self.backbones[structure]

    def run(self, method: Method, name: str, joint: JointTraining | None = None) -> Run:
        """A run of the method on the domain `name`."""
        backbone, shown = self.backbone(method.backbone_structure), images(name)
        return Run(
            method.full_spec, backbone, shown, shown, 0, "val", method.lr, False, joint, method.trains_per_domain
        )

    def file(
        self, method: Method, network: Network, source: Network, name: str, joint: JointTraining | None = None
    ) -> Path:
        """Write the adapter file of a trained network."""
        run, stored = self.run(method, name, joint), stored_tensors(network, source)
        assert restore(network, source, stored) == ""  # as a run does
        backbone, _ = pretrain.load(run.backbone, "cpu")
        backbone = backbone.for_size(32)
        write_adapters(run, method, backbone, stored, self.root)
        return self.root / "adapters" / f"{run.hash}.safetensors"

    def written(self, spec: str, name: str = "dtd") -> tuple[Path, Network]:
        """The adapter file of a domain, and the network that was written to it."""
        (method,) = select(spec)
        source, _ = pretrain.load(self.backbone(method.backbone_structure), "cpu")
        source = source.for_size(32)
        torch.manual_seed(len(spec))
        network = method.place(source, CLASSES[name])
        moved(network)
        return self.file(method, network, source, name), network.eval()

    def together(self, spec: str = "res_adapter_finetune_all") -> dict[str, tuple[Path, Network]]:
        """Both domains of a joint training: (file, network) by name."""
        (method,) = select(spec)
        backbone = self.backbone(method.backbone_structure)
        joint = JointTraining(method.full_spec, backbone, tuple(map(images, CLASSES)), 0, method.lr)
        source, _ = pretrain.load(backbone, "cpu")
        torch.manual_seed(9)
        module = method.build_joint(source, CLASSES)
        moved(module)
        method.after_step(module, 1, 2)
        write_safetensors(joint.path, stored_tensors(module, source), {"method": joint.method})
        return {n: (self.file(method, m, module.trunk, n, joint), m.eval()) for n, m in module.networks.items()}
