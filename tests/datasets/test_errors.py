"""How sentences spell options, so that what they say can be pasted into a shell."""

import shlex

from visual_decathlon.datasets.errors import make_variables, setting


def test_a_setting_with_parentheses_is_quoted():
    assert setting("network=resnet26") == "settings=network=resnet26"
    with make_variables():
        assert setting("network=timm/resnet18") == "SET=network=timm/resnet18"
        (word,) = shlex.split(setting("network=timm/vit_tiny_patch16_224(img_size=32,patch_size=8)"))
    assert word == "SET=network=timm/vit_tiny_patch16_224(img_size=32,patch_size=8)"
