"""Words of the field that are no method's name here, each with a sentence on its name or its absence here."""

import re

from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import option

_COMPRESSION = "is no method but a way to make a trained network smaller, and is not in this suite"
_WORDS = {
    # another name of an entry
    "full, full finetune, full finetuning, full ft, fine tuning, ft": "is method=finetune here",
    "from scratch, random init": "is method=scratch here (scratch_plus: with adapters in it)",
    "linear probe, linear probing, linear, probe, head, head only, frozen, feature extraction, feature extractor, lp": (
        "is method=feature here: a linear head on the frozen features"
    ),
    "last layers, top layers, last blocks, gradual unfreezing": "is method=partial here: its option last=n",
    "batch norm, bn, norm, norm tuning, layernorm": "is method=bn_adapt here; bitfit, ssf, ia3 train a part",
    "bias, biases, bias tuning, tinytl": "is method=bitfit here: on a ResNet the shifts of batch norm",
    "film, scale and shift": "is method=ssf here: a learned scale and shift of each channel",
    "peft, parameter efficient, petl": "is what this suite compares: name one of its entries",
    "series, series adapter, serial, residual adapter, residual adapters": "is method=res_adapter here",
    "parallel, parallel adapter": "is method=par_adapter here; method=grid has other kinds",
    "adapters, adapterhub, bottleneck": (
        "is a family here: houlsby, adapter(...), par_adapter, res_adapter and more, see `make methods`"
    ),
    "scaled parallel adapter, scaled pa": "is method=adaptformer(bottleneck=512, scale=4.0) here, on a transformer",
    "cp, cpd, parafac, canonical polyadic, ftn, factorized tensor network": "is method=lora_cp here",
    "tucker, tkd, tucker2, hosvd": "is method=lora_tkd here (lora_tucker is the same with one rank)",
    "tensor train, tt, loretta": "is method=fact here, over all layers; within a layer lora_cp, lora_tkd, lora_tkd_cp",
    "locon, lycoris": "is method=lora here, which takes convolutions; loha and lokr are of that package, too",
    "kronecker, krona": "is method=lokr here",
    "fourier, fft, spectral": "is method=fourierft here: ΔW of few frequencies",
    "circulant, block circulant, circular convolution": "is method=c3a here: ΔW of circulant blocks",
    "gps, gradient based parameter selection": "is method=shira here, with its option mask='gradient'",
    "hadamard": "is method=loha here; hira is another elementwise product",
    "orthogonal, cayley, goft": "is a family here: oft, boft, hra",
    "diag oft": "is oft(side='left') here, which turns filters into one another",
    "lora plus, lora+": "is method=lora(lr_ratio=16) here",
    "pissa": "is method=lora(init='pissa') here",
    "rslora": "is method=lora(scaling='sqrt') here",
    "conv lora, loralib": "is method=lora(form='loralib') here",
    "mask, masks, binary mask, packnet": "is method=piggyback here, masks over frozen weights (PackNet's order is not)",
    "multitask, joint, joint training, mtl": "is method=res_adapter_finetune_all: weights trained over all domains",
    "distill, distillation, knowledge distillation, kd, learning without forgetting": (
        "is not here by itself; method=lwf holds a fine-tuned network to the original's answers by distillation"
    ),
    "ladder, ladder side tuning, side tuning": "is method=lst here; method=side is a read-out in closed form",
    "depthwise separable, depthwise sharing, depthwise convolution": (
        "is method=depthwise here, on a network with depthwise convolutions; gates over domains' filters are not"
    ),
    "3dsam, 3dsam adapter": "is method=spatial_adapter here, in 2D",
    "dtl+": "is method=dtl(kernel=5) here",
    "spot": "is method=spottune here",
    "visual prompt, visual prompting, vp, padding": "is method=pad_prompt here: a border on the image",
    "vpt, prompt tuning, prefix tuning, soft prompt, p tuning": (
        "is method=prompt here (deep=False: shallow), and prefix tuning method=prefix, both for a vision transformer; "
        "method=pad_prompt is the prompt that a ResNet takes"
    ),
    # in the suite, but no method
    "ensemble, seeds": "is no method; seeds=3 runs a method three times, and tables give mean and deviation",
    "task arithmetic, model merging, merging, model soup, ties": "is no method; `make sum` adds ΔW of two domains",
    "torch compile": "is a setting, not a method: settings=compile=true",
    "fp16, float16, amp, mixed precision, half, bfloat16": (
        "is a setting, not a method: settings=precision=bf16 or fp16"
    ),
    "float32": "is a setting, not a method: settings=precision=fp32",
    "learning rate": "is a setting, not a method: settings=lr=",
    "weight decay, l2": "is a setting, not a method: settings=weight_decay=",
    "batch size": "is a setting, not a method: settings=batch=",
    "label smoothing": "is a setting, not a method: settings=label_smoothing=",
    "sgd": "is no method but how every run trains: settings=momentum= and settings=lr= are its settings",
    "adam, adamw, optimizer, optimiser, lion, rmsprop": (
        "is not here: every run trains by SGD with momentum, piggyback(adam=True) apart, which has its release's Adam"
    ),
    "scheduler, cosine, warmup": "is no method: settings=schedule= takes one-cycle, which warms up, or steps",
    "dropout, drop path, stochastic depth": "is not here: no recipe has it; settings=weight_decay= and "
    "settings=label_smoothing= are settings",
    "mixup, cutmix, augmentation, augment, randaugment, autoaugment": (
        "is not here: images are resized, cropped and flipped as the domain's rule says"
    ),
    "pretrain, pretrained, pretraining, backbone": "is no method: backbone= gives weights, else they are pretrained",
    # not in the suite
    "pruning, prune, sparse, sparsity, sparsify, lottery ticket, magnitude pruning, structured pruning": (
        f"{_COMPRESSION}; method=piggyback masks weights, ba2 channels, snell keeps the largest entries of ΔW"
    ),
    "quantization, quantisation, quantize, quantise, quantized, int8, int4, 4bit, 8bit, qat, quant": (
        "is method=quantised here: it stores another method's adapters in 1 to 8 bits; the backbone is not quantised"
    ),
    "binary adapter, binary adapters, bi lora, 1 bit adapter, 1 bit adapters, 1bit": (
        "is method=quantised here, with its option store='1bit': two levels for each block of an adapter's numbers"
    ),
    "fp8, nf4, ptq, gptq, awq": (
        "is a way to quantise that is not here; method=quantised stores another method's adapters in 1 to 8 bits"
    ),
    "qlora": "quantises the backbone and is not here; method=quantised stores the adapters in few bits instead",
    "transformer, attention, self attention": (
        "is of a backbone, not a method: settings=network=timm/vit_tiny_patch16_224(img_size=32,patch_size=8) is a "
        "vision transformer; method=prompt and method=prefix are made for its attention"
    ),
    "adapter fusion, adapterdrop": "is not here; houlsby, pfeiffer and par_adapter are adapters of one domain",
    "ssl, self supervised, contrastive, simclr, moco, dino, mae": (
        "is a way to pretrain and not here; backbone= takes the weights of a ResNet that were trained so"
    ),
    "zero shot": "is not here: every entry trains on a domain's images",
    "knn, k nearest neighbours, nearest neighbour": "is not here; method=feature trains a linear head on features",
    "ewc, elastic weight consolidation, si, mas, gem, replay, continual": (
        "is of continual learning and not here, where domains forget nothing; method=lwf is nearest"
    ),
    "hypernetwork, hypernetworks, hyperformer": "is not here: no entry makes a domain's weights by a network",
    "maml, meta learning, few shot, prototypical, prototypical networks, protonet": (
        "is not here: no entry learns to learn; limit= cuts the images"
    ),
    "compacter, phm": "is not here; method=houlsby is its bottleneck, lokr a Kronecker product",
    "lora fa, lora xs, moslora": ("is a variant of LoRA that is not here; method=lora, dora and adalora are"),
    "moe, mixture of experts, nddr, cross stitch": "is not here; method=spottune chooses blocks by the image",
    "mtan, nettailor, nas": "is not here; its published row, where there is one, is in the figures",
}


def letters(word: str) -> str:
    """A word without case, hyphens, underscores and blanks, `finetune` for `Fine-Tune`; empty if it is no word."""
    return re.sub(r"[^a-z0-9+]", "", word.lower()) if re.fullmatch(r"[\w +./-]+", word) else ""


_OPTIONS = re.compile(r"\b(method|settings|split|domains|seeds|backbone|limit)=")
_SENTENCES = {letters(word): sentence for words, sentence in _WORDS.items() for word in words.split(",")}


def _of_data(word: str) -> str | None:
    """The sentence on the name of a domain or a split; `imagenet` is enough for `imagenet12`."""
    for name in DOMAINS:
        if letters(word) in (letters(name), letters(name).rstrip("0123456789")):
            return f"is a domain, not a method: domains={name}"
    return f"is a split, not a method: split={letters(word)}" if letters(word) in ("val", "test") else None


def explained(word: str) -> str | None:
    """The sentence on a word of the field in any usual spelling (`Linear-Probe`, `linear_probe`), or None."""
    sentence = letters(word) and (_SENTENCES.get(letters(word)) or _of_data(word))
    if not sentence:
        return None
    return f"{word.strip()} {_OPTIONS.sub(lambda found: option(found[1]), sentence)}"
