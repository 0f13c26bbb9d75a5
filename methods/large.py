"""Series residual adapters on a wider backbone."""

from dataclasses import dataclass
from typing import ClassVar

from visual_decathlon.methods.registry import register
from visual_decathlon.methods.residual_adapters import ResAdapter


@register
@dataclass(frozen=True)
class ResAdapterLarge(ResAdapter):
    """Rebuffi, Bilen, Vedaldi 2017, "Res. adapt. (large)": the same method, the shared network about 12 times as large.

    The paper does not give the width; ours is 2.375 times the profile's, so that base and adapters are 11.7 times the
    plain base: #par. 11.71. Its backbone is pretrained like the others, at that width. It starts as the identity.
    """

    name = "res_adapter_large"
    label = "Res. adapt. (large)"
    width_multiplier: ClassVar[float] = 2.375
