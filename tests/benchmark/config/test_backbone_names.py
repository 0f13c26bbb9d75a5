"""Unknown names of backbones: the message lists the known ones or a similar one, wherever the name is given."""

import pytest

from visual_decathlon.benchmark.cli.main import main
from visual_decathlon.benchmark.config.profiles import profile
from visual_decathlon.datasets.errors import InputError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit", "methods here adapt ResNets; there are resnet26, torchvision/resnet18"),
        ("timm/vit_base_patch16_224", "methods here adapt ResNets"),
        ("ConvNeXt", "methods here adapt ResNets"),
        ("resnet18", "did you mean torchvision/resnet18 or timm/resnet18?"),
        ("ResNet-50", "did you mean torchvision/resnet50 or timm/resnet50?"),
        ("timm/resnet26", "did you mean resnet26?"),
        ("resnet34", "of all ResNets there are resnet26"),
        ("torchvision/resnet101", "of all ResNets there are resnet26"),
        ("torchvison/resnet", "there are resnet26"),
        ("resent26", "did you mean resnet26?"),
        ("x", "there are resnet26"),
    ],
)
def test_unknown_backbones(name: str, message: str, capsys):
    with pytest.raises(InputError) as caught:
        profile("standin", [f"network={name}"])
    assert str(caught.value).startswith(f"settings=network={name}: no backbone is called {name!r}") and message in str(
        caught.value
    )
    with pytest.raises(SystemExit) as ended:
        main(["methods", "--network", name])
    assert ended.value.code == 2 and message in capsys.readouterr().err
