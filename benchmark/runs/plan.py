"""Plans the runs of a request: one run per method, domain and seed."""

from collections.abc import Sequence

from visual_decathlon.benchmark.config.specs import ImageSet, JointTraining, Run
from visual_decathlon.benchmark.runs.backbones import requested_backbones, unsupported_reason
from visual_decathlon.benchmark.runs.data import Data
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.datasets.catalogue import DOMAINS, SOURCE
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select


def plan_runs(request: Request, data: Data, methods: Sequence[Method], seeds: Sequence[int]) -> list[Run]:
    """One run a method, domain and seed, in that order. Raises InputError for a method that cannot run."""
    wanted = [name for name in data.train if not request.domains or name in request.domains or name not in DOMAINS]
    out = []
    for method in methods:
        if sentence := unsupported_reason(request, method):
            raise InputError(sentence)
        backbone = requested_backbones(request, data, method.width_multiplier)[method.backbone_structure]
        rate = request.profile.adapt.lr or method.lr

        def trained(name: str) -> ImageSet:
            return data.source if name == SOURCE and request.user_backbone is None else data.train[name]

        joints = {}
        if method.has_joint_stage:
            images = tuple(map(trained, wanted))
            joints = {seed: JointTraining(method.full_spec, backbone, images, seed, rate) for seed in seeds}
        for name in wanted:
            for seed in seeds:
                out.append(
                    Run(
                        method=method.full_spec,
                        backbone=backbone,
                        train=trained(name),
                        evaluate=data.evaluate[name],
                        seed=seed,
                        split=request.split,
                        lr=rate,
                        source_cell=name == SOURCE and request.user_backbone is None and method.trains_per_domain,
                        joint=joints.get(seed),
                        trains_per_domain=method.trains_per_domain,
                        predictions=request.predictions,
                    )
                )
    return out


def plan_baseline_runs(request: Request, data: Data, seeds: Sequence[int]) -> list[Run]:
    """The fine-tune runs on the ten domains, whose errors set E_max; none where BACKBONE= holds no plain network."""
    (method,) = select(BASELINE)
    if method.backbone_structure not in requested_backbones(request, data):
        return []
    return [run for run in plan_runs(request, data, [method], seeds) if run.domain.official]
