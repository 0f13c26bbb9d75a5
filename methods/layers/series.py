"""Series residual adapter: y + A BN(y) behind a convolution (Rebuffi, Bilen, Vedaldi 2017, their code)."""

import torch
from torch import Tensor, nn

from methods.layers.network import Adapter, Network, conv_like


class SeriesConv(Adapter):
    """(N, cin, H, W) -> (N, cout, H', W'): y = conv(x), then y + mix(norm(y)), mix a 1x1 without bias."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        channels, like = conv.out_channels, {"device": conv.weight.device, "dtype": conv.weight.dtype}
        self.norm = nn.BatchNorm2d(channels, **like)
        self.mix = nn.Conv2d(channels, channels, 1, bias=False, **like)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + self.mix(self.norm(y))

    def folded(self) -> nn.Conv2d:
        """With the inner norm as s y + t: weight (I + A diag s) W and bias (I + A diag s) b + A t."""
        if self.conv.groups != 1:
            raise AttributeError(f"a {self.conv} cannot mix its channels: a group reads its own inputs alone")
        scale = self.norm.weight * torch.rsqrt(self.norm.running_var + self.norm.eps)
        shift = self.norm.bias - self.norm.running_mean * scale
        mix = self.mix.weight[:, :, 0, 0]
        matrix = torch.eye(len(mix), device=mix.device, dtype=mix.dtype) + mix * scale
        weight = (matrix @ self.conv.weight.flatten(1)).view_as(self.conv.weight)
        bias = mix @ shift
        if self.conv.bias is not None:
            bias = bias + matrix @ self.conv.bias
        return conv_like(self.conv, weight, bias)


def put_series(network: Network, init: str = "he") -> None:
    """Put a series adapter behind every convolution: `he` as the released code starts A, `zero` the identity."""
    for site, conv in list(network.conv_sites()):
        network.set_submodule(site.conv, adapter := SeriesConv(conv))
        start_mix(adapter, init)


def start_mix(adapter: SeriesConv, init: str) -> None:
    if init == "he":
        nn.init.kaiming_normal_(adapter.mix.weight, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.zeros_(adapter.mix.weight)
