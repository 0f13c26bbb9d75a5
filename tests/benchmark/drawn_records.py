"""Synthetic records for tests of tables, figures and pages."""

import json

from visual_decathlon.datasets.catalogue import DOMAINS

SETTINGS = json.dumps({"network": "resnet26", "width": 0.25, "crop": 32, "adapt": {"lr": 0.1}})


def record(method: str = "finetune", domain: str = "dtd", top1: float = 80.0, seed: int = 0, **more) -> dict:
    official = DOMAINS.get(domain)
    made = {
        "hash": f"{method} {domain} {seed} {sorted(more.items())}",
        "method": method,
        "label": method.partition("(")[0].capitalize(),
        "family": "low rank",
        "fidelity": "ours",
        "domain": domain,
        "k": official.k if official else 0,
        "seed": seed,
        "split": "val",
        "limit": None,
        "profile": "standin",
        "settings": SETTINGS,
        "data": "standin-v1-seed0",
        "data_id": "standin-v1-seed0",
        "standin": True,
        "backbone_source": "pretrained",
        "training": 1,
        "source_cell": domain == "imagenet12",
        "top1": top1,
        "eval_images": 100,
        "train_images": 200,
        "multiplier": 2.0,
        "head_floats": 10,
        "floats": 111,
        "bits": 8,
        "base_floats": 1000,
        "train_seconds": 4.0,
        "prepare_seconds": None,
        "cpu_seconds": None,
        "step_ms": 5.0,
        "step_ms_p10": 4.0,
        "step_ms_p90": 7.0,
        **dict.fromkeys(("train_img_s", "eval_img_s", "peak_mb", "bytes"), 5.0),
        "joules": None,
        "macs_train": 2_000_000,
        "macs_inference": 1_000_000,
        "device": "cpu",
        "machine": "mine",
        "workers": 2,
        "runs_on_device": None,
        **dict.fromkeys(("layout", "norm", "step", "first_step_seconds", "skipped_steps", "routed")),
        "threads": 1,
        "versions": '{"torch": "2.15.0"}',
        **dict.fromkeys(("environment", "driver", "node")),
        "created": "2026-01-01T00:00:00+00:00",
    }
    return made | more


def ten(method: str = "finetune", top1: float = 80.0, seed: int = 0, **more) -> list[dict]:
    return [record(method, name, top1, seed, **more) for name in DOMAINS]
