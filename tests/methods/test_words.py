"""Words of the field that are no method's name: a sentence names the method, or states that there is none."""

import re

import pytest

from visual_decathlon.datasets.catalogue import DOMAINS
from visual_decathlon.datasets.errors import InputError
from visual_decathlon.methods.registry import GROUPS, entries, select
from visual_decathlon.methods.words import _SENTENCES, _WORDS, explained, letters


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("pruning", "snell keeps the largest entries"),
        ("int8", "is method=quantised here"),
        ("Bi-LoRA", "is method=quantised here, with its option store='1bit'"),
        ("1-bit adapters", "is method=quantised here, with its option store='1bit'"),
        ("quantization(bits=4)", "is method=quantised here"),
        ("quantized", "the backbone is not quantised"),
        ("4bit", "stores another method's adapters in 1 to 8 bits"),
        ("GPTQ", "is not here; method=quantised"),
        ("awq", "is not here; method=quantised"),
        ("zero-shot", "is not here: every entry trains"),
        ("k-nn", "method=feature"),
        ("peft", "is what this suite compares"),
        ("dropout", "is not here"),
        ("AdapterFusion", "is not here; houlsby"),
        ("prototypical", "is not here"),
        ("ssl", "backbone= takes"),
        ("float16", "settings=precision=bf16 or fp16"),
        ("amp", "settings=precision=bf16"),
        ("sparsity", "snell keeps the largest entries"),
        ("distill", "method=lwf"),
        ("mixup", "is not here: images are"),
        ("adam", "trains by SGD"),
        ("sgd", "settings=momentum="),
        ("film", "method=ssf"),
        ("full", "method=finetune"),
        ("learning-rate", "settings=lr="),
        ("ImageNet", "domains=imagenet12"),
        ("vgg_flowers", "is a domain, not a method: domains=vgg-flowers"),
        ("val", "split=val"),
        *((name, f"is a domain, not a method: domains={name}") for name in DOMAINS),
        ("Linear Probe", "method=feature"),
        ("linear-probe", "method=feature"),
        ("head", "method=feature"),
        ("full fine-tuning", "method=finetune"),
        ("ft", "method=finetune"),
        ("from scratch", "method=scratch"),
        ("batch-norm", "method=bn_adapt"),
        ("bias", "method=bitfit"),
        ("series", "method=res_adapter"),
        ("parallel", "method=par_adapter"),
        ("adapterhub", "houlsby"),
        ("Scaled PA", "method=adaptformer(bottleneck=512, scale=4.0)"),
        ("CP", "method=lora_cp"),
        ("tucker", "method=lora_tkd"),
        ("lora_fa", "variant of LoRA that is not here"),
        ("LoRA-FA(rank=4)", "variant of LoRA"),
        ("LoRA-plus", "method=lora(lr_ratio=16)"),
        ("lora+", "method=lora(lr_ratio=16)"),
        ("loralib", "method=lora(form='loralib')"),
        ("DTL+", "method=dtl(kernel=5)"),
        ("PiSSA", "init='pissa'"),
        ("rsLoRA", "scaling='sqrt'"),
        ("FTN", "method=lora_cp"),
        ("Diag-OFT", "oft(side='left')"),
        ("vpt", "is method=prompt here (deep=False: shallow), and prefix tuning method=prefix"),
        ("soft-prompt", "method=pad_prompt is the prompt that a ResNet takes"),
        ("attention", "settings=network=timm/vit_tiny_patch16_224(img_size=32,patch_size=8)"),
        ("distillation", "method=lwf"),
        ("ewc", "method=lwf is nearest"),
        ("packnet", "method=piggyback"),
        ("spot", "method=spottune"),
        ("FFT", "method=fourierft"),
        ("block-circulant", "method=c3a"),
        ("GPS", "method=shira here, with its option mask="),
        ("compacter", "method=houlsby"),
        ("hypernetwork", "is not here"),
        ("merging", "`make sum`"),
    ],
)
def test_words_of_the_field(word: str, message: str):
    for expression in (word, f"bn_adapt, {word}"):
        with pytest.raises(InputError) as caught:
            select(expression)
        sentence = str(caught.value)
        assert message in sentence and sentence.startswith(f"method={word}: "), sentence
        assert "did you mean" not in sentence and "\n" not in sentence


def test_sentences_name_what_there_is():
    """No word is in the table twice, and none is the name of an entry, whose own message it would hide."""
    names = {entry.name for entry in entries()} | set(GROUPS)
    for sentence in _WORDS.values():
        named = re.findall(r"method=(\w+)", sentence) + re.findall(r"\b(?:res|par|lora|bn|pad)_\w+", sentence)
        assert set(named) <= names, sentence
    words = [word for words in _WORDS for word in words.split(",")]
    assert len(words) == len(_SENTENCES)
    assert not [name for name in names if explained(name)]
    assert not {letters(name) for name in names} & set(_SENTENCES), "a word hides the entry that it is a spelling of"


def test_other_words_are_none_of_these():
    for word in ("lroa", "bn_adaptt", "", "(", "zzz"):
        assert explained(word) is None


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("fine-tune", "finetune"),
        ("Fine Tune(x=1)", "finetune"),
        ("LoRA", "lora"),
        ("LoRA(rank=4)", "lora"),
        ("bn adapt", "bn_adapt"),
        ("ResAdapter", "res_adapter"),
        ("Table-1", "table1"),
        ("bn-adapted", "bn_adapt"),
    ],
)
def test_another_spelling_of_an_entry(word: str, meant: str):
    with pytest.raises(InputError, match=rf"^no method is called .*; did you mean {meant}\b"):
        select(word)
    with pytest.raises(InputError, match="did you mean lora"):
        select("LoRA", lambda word: "is something else")
