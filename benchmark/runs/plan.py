"""Plans the runs of a request: one run per method, domain and seed."""

from collections.abc import Sequence

from visual_decathlon.benchmark.config.rates import peak_rate
from visual_decathlon.benchmark.config.specs import Backbone, ImageSet, JointTraining, Run
from visual_decathlon.benchmark.runs.backbones import lower_rates, requested_backbones, unsupported_reason
from visual_decathlon.benchmark.runs.data import Data
from visual_decathlon.benchmark.runs.request import Request
from visual_decathlon.benchmark.tables.score import BASELINE
from visual_decathlon.datasets.catalogue import BACKBONE_DOMAIN, DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.method import Method
from visual_decathlon.methods.registry import select


def plan_runs(request: Request, data: Data, methods: Sequence[Method], seeds: Sequence[int]) -> list[Run]:
    """One run per method, domain and seed, in that order. Raises InputError for a method that cannot run."""
    return [run for method in methods for run in _runs_of(method, request, data, seeds)]


def plan_baseline_runs(request: Request, data: Data, seeds: Sequence[int]) -> list[Run]:
    """The fine-tune runs on the ten domains, whose errors set E_max; none where BACKBONE= holds no plain network."""
    (method,) = select(BASELINE)
    if method.backbone_structure not in requested_backbones(request, data):
        return []
    return [run for run in plan_runs(request, data, [method], seeds) if run.domain.official]


def _runs_of(method: Method, request: Request, data: Data, seeds: Sequence[int]) -> list[Run]:
    if sentence := unsupported_reason(request, method):
        raise InputError(sentence)
    backbone = requested_backbones(request, data, method.width_multiplier)[method.backbone_structure]
    lr = peak_rate(request.profile.adapt, method, lower_rates(request.profile))
    train = _train_images(request, data)
    joints, classifiers = _joint_trainings(method, backbone, tuple(train.values()), seeds, lr)
    return [
        Run(
            method=method.full_spec,
            backbone=backbone,
            train=images,
            evaluate=data.evaluate[name],
            seed=seed,
            split=request.split,
            lr=lr,
            source_cell=name == BACKBONE_DOMAIN and request.user_backbone is None and method.trains_per_domain,
            joint=joints.get(seed),
            trains_per_domain=method.trains_per_domain,
            predictions=request.predictions,
            classifier=classifiers.get(seed),
        )
        for name, images in train.items()
        for seed in seeds
    ]


def _train_images(request: Request, data: Data) -> dict[str, ImageSet]:
    """The images that each domain of the request trains on, by name.

    A backbone that is pretrained here has seen imagenet12's train only, so runs on imagenet12 have the same.
    """
    names = [name for name in data.train if not request.domains or name in request.domains or name not in DOMAINS]
    pretrained = {BACKBONE_DOMAIN: data.pretraining} if request.user_backbone is None else {}
    return {name: pretrained.get(name, data.train[name]) for name in names}


def _joint_trainings(
    method: Method, backbone: Backbone, images: tuple[ImageSet, ...], seeds: Sequence[int], lr: float
) -> tuple[dict[int, JointTraining], dict[int, JointTraining]]:
    """The trainings of each seed over all domains of the request: of the networks, and of a classifier of domains.

    Both are trained at the rate of the run. Entries of one `joint_method` share the training of the networks.
    """
    (joint_method,) = select(method.joint_method) if method.joint_method else (method,)
    joint = {seed: JointTraining(joint_method.full_spec, backbone, images, seed, lr) for seed in seeds}
    classifier = {seed: JointTraining(method.full_spec, backbone, images, seed, lr, classifier=True) for seed in seeds}
    return joint if method.has_joint_stage else {}, classifier if method.classifies_domains else {}
