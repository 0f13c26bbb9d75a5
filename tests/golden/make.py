"""Makes the golden numbers of this folder with the residual adapters' released code (RA).

    git clone https://github.com/srebuffi/residual_adapters && python tests/golden/make.py residual_adapters

RA's network at width 1/16, with two tasks, in each of its three modes; weights, statistics, images and labels are
drawn. Each file holds the weights under RA's names as `weights/…` (bfloat16, which holds them exactly), the logits of
both tasks in eval mode, and for task 0 the logits, the loss and all gradients of one training step. Computed in float32
on a CPU with one thread. A width of 1/32 is too slim: the stem has one channel, so its series adapter has no gradient.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

CLASSES = [10, 7]
MODES = {"bn": "normal", "series": "series_adapters", "parallel": "parallel_adapters"}


def main(reference: str) -> None:
    """Writes golden_bn, golden_series and golden_parallel next to this file; `reference` is RA's checkout."""
    sys.path.insert(0, reference)
    import config_task
    import models

    torch.set_num_threads(1)
    config_task.factor = 1 / 16
    config_task.isdropout1 = config_task.isdropout2 = False
    for kind, config_task.mode in MODES.items():
        torch.manual_seed(26)
        network = models.resnet26(CLASSES)
        draw(network)
        tensors = {f"weights/{name}": stored(tensor) for name, tensor in network.state_dict().items()}
        x, labels = torch.randn(4, 3, 16, 16), torch.randint(min(CLASSES), (4,))
        tensors |= {"input": x, "task0/labels": labels}
        for config_task.task in (1, 0):
            with torch.no_grad():
                tensors[f"task{config_task.task}/logits_eval"] = network.eval()(x)
        logits = network.train()(x)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        tensors |= {"task0/logits_train": logits.detach(), "task0/loss_train": loss.detach()[None]}
        of_task = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
        tensors |= {f"task0/grad/{name}": gradient for name, gradient in of_task.items()}
        save_file(tensors, Path(__file__).with_name(f"golden_{kind}.safetensors"))


@torch.no_grad()
def draw(network: nn.Module) -> None:
    """Draws norms and statistics too: at their start, an error in them would not show."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(3)
    for tensor in network.state_dict().values():
        tensor.copy_(stored(tensor))


def stored(tensor: torch.Tensor) -> torch.Tensor:
    """In bfloat16, counters as they are."""
    return tensor.bfloat16() if tensor.is_floating_point() else tensor.clone()


if __name__ == "__main__":
    main(sys.argv[1])
