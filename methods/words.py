"""Words of the field that are no method's name here: what they are called here, where they are, or that they lack."""

import re

_BESIDE = "is no method but a way to make a trained network smaller, and is not in this suite"
_WORDS = {
    # another name of an entry
    "full finetuning, full ft, fullfinetune, fine tuning, ft": "is METHOD=finetune here",
    "from scratch, random init": "is METHOD=scratch here (scratch_plus: with adapters in it)",
    "linear probe, linear probing, linear, probe, head, head only, frozen, feature extraction, feature extractor, lp": (
        "is METHOD=feature here: a linear head on the frozen features"
    ),
    "last layers, top layers, last blocks, gradual unfreezing": "is METHOD=partial here: its option last=n",
    "batch norm, bn, norm, norm tuning, layernorm": "is METHOD=bn_adapt here; bitfit, ssf, ia3 train a part",
    "bias, biases, bias tuning, tinytl": "is METHOD=bitfit here: the shifts of batch norm, its convolutions have none",
    "series, series adapter, serial, residual adapter, residual adapters": "is METHOD=res_adapter here",
    "parallel, parallel adapter": "is METHOD=par_adapter here; METHOD=grid has other kinds",
    "adapters, adapterhub, bottleneck, pfeiffer, adaptformer": (
        "is a family here: houlsby, adapter(...), par_adapter, res_adapter and more, see `make methods`"
    ),
    "cp, cpd, parafac, canonical polyadic": "is METHOD=lora_cp here",
    "tucker, tkd, tucker2, hosvd": "is METHOD=lora_tkd here (lora_tucker is the same with one rank)",
    "tensor train, tt, loretta, fact": "is not here; tensor forms of ΔW are lora_cp, lora_tkd, lora_tkd_cp",
    "locon, lycoris": "is METHOD=lora here, which takes convolutions; loha and lokr are of that package, too",
    "kronecker, krona": "is METHOD=lokr here",
    "hadamard": "is METHOD=loha here; hira is another elementwise product",
    "orthogonal, cayley, goft": "is a family here: oft, boft, hra",
    "mask, masks, binary mask, packnet": "is METHOD=piggyback here, masks over frozen weights (PackNet's order is not)",
    "multitask, joint, joint training, mtl": "is METHOD=res_adapter_finetune_all: weights trained over all domains",
    "distillation, knowledge distillation, kd, learning without forgetting": (
        "is not here by itself; METHOD=lwf holds a fine-tuned network to the original's answers by distillation"
    ),
    "spot": "is METHOD=spottune here",
    "visual prompt, visual prompting, vp, padding": "is METHOD=pad_prompt here: a border on the image",
    "vpt, prompt tuning, prefix tuning, soft prompt, p tuning": (
        "needs attention, which no backbone here has: prompt and prefix are listed for that and refused on a ResNet; "
        "METHOD=pad_prompt is the prompt that a ResNet takes"
    ),
    # in the suite, but no method
    "ensemble, seeds": "is no method; SEEDS=3 runs a method three times, and tables give mean and deviation",
    "task arithmetic, model merging, merging, model soup, ties": "is no method; `make sum` adds ΔW of two domains",
    "resnet, resnet26, resnet18, resnet50": "is a backbone, not a method: SET=network=torchvision/resnet18 or the like",
    "compile, torch compile": "is a setting, not a method: SET=compile=true",
    "bf16, fp16, amp, mixed precision, half": "is a setting, not a method: SET=precision=bf16 (fp16 is not here)",
    "pretrain, pretrained, pretraining, backbone": "is no method: BACKBONE= gives weights, else they are pretrained",
    # not in the suite
    "pruning, prune, lottery ticket, magnitude pruning, structured pruning": (
        f"{_BESIDE}; METHOD=piggyback masks weights, ba2 channels, snell keeps the largest entries of ΔW"
    ),
    "quantization, quantisation, quantize, int8, int4, fp8, ptq, qat, quant": (
        f"{_BESIDE}; training runs in fp32, tf32 or bf16 (SET=precision=)"
    ),
    "qlora": "is not here: nothing is quantised; METHOD=lora is on a backbone in fp32",
    "vit, deit, swin, transformer, clip, convnext, mobilenet, efficientnet, vgg": (
        "is a backbone that this suite does not have; it has resnet26 and ResNet-18 and -50 of torchvision and timm"
    ),
    "ewc, elastic weight consolidation, si, mas, gem, replay, continual": (
        "is of continual learning and not here, where domains forget nothing; METHOD=lwf is nearest"
    ),
    "hypernetwork, hypernetworks, hyperformer": "is not here: no entry makes a domain's weights by a network",
    "maml, meta learning, few shot": "is not here: no entry learns to learn; LIMIT= cuts the images",
    "compacter, phm": "is not here; METHOD=houlsby is its bottleneck, lokr a Kronecker product",
    "lora fa, lora plus, lora xs, pissa, rslora, vera, randlora, moslora": (
        "is a variant of LoRA that is not here; METHOD=lora, dora and adalora are"
    ),
    "moe, mixture of experts, nddr, cross stitch": "is not here; METHOD=spottune chooses blocks by the image",
    "mtan, nettailor, nas": "is not here; its published row, where there is one, is in the figures",
}


def _letters(word: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", word.lower())


_SENTENCES = {_letters(word): sentence for words, sentence in _WORDS.items() for word in words.split(",")}


def explained(word: str) -> str | None:
    """The sentence on a word of the field, in any usual spelling (`Linear-Probe`, `linear_probe`); None for another."""
    sentence = _SENTENCES.get(_letters(word)) if re.fullmatch(r"[\w +-]+", word) else None
    return sentence and f"{word.strip()} {sentence}"
