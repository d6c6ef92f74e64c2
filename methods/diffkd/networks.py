"""The side networks of DiffKD, as in the authors' released code. Vectors pass through them as maps B,C,1,1."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import CannotServe
from methods.diffkd.diffusion import Variant
from methods.diffkd.unet import UNet


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, computed as a matrix product if channels come last in memory.

    Weights and arithmetic are those of a convolution. For the small maps of the side networks a CPU's convolution
    spends most of its time on overhead, most of all in the backward pass.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the convolved map B,out,H,W of a map B,C,H,W."""
        if not inputs.is_contiguous(memory_format=torch.channels_last):
            return super().forward(inputs)
        return F.linear(inputs.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class Bottleneck(nn.Module):
    """A residual block `C -> C / reduction -> C` with a 3x3 convolution in the middle, nothing after the sum."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.block = nn.Sequential(
            Pointwise(channels, inner),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            Pointwise(inner, channels),
            nn.BatchNorm2d(channels),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's output B,C,H,W for an input B,C,H,W."""
        out: Tensor = inputs + self.block(inputs)
        return out


def projection(channels: int, out: int) -> nn.Sequential:
    """Build a 1x1 convolution and a batch norm."""
    return nn.Sequential(Pointwise(channels, out), nn.BatchNorm2d(out))


def output_projection(channels: int, variant: Variant) -> nn.Module:
    """Build what follows the denoising."""
    match variant:
        case "official":
            return projection(channels, channels)
        case "june2023":
            return Pointwise(channels, channels)
        case "paper":
            return nn.Identity()


class NoisePredictor(nn.Module):
    """The predictor of the noise in a tensor, from the tensor plus a learned embedding of its timestep."""

    EMBEDDINGS = 1280  # the released table's size, of which the 1000 timesteps use the first rows

    def __init__(self, channels: int, layers: nn.Sequential) -> None:
        super().__init__()
        self.time_embedding = nn.Embedding(self.EMBEDDINGS, channels)
        self.layers = layers

    def forward(self, noisy: Tensor, timestep: Tensor | int) -> Tensor:
        """Return the noise B,C,H,W of a map B,C,H,W; `timestep` is one number for all samples, or a tensor B."""
        # Indexing by a plain number is a view: no index travels to the device.
        time = self.time_embedding.weight[timestep] if isinstance(timestep, int) else self.time_embedding(timestep)
        noise: Tensor = self.layers(noisy + time.view(-1, noisy.shape[1], 1, 1))
        return noise


def light_predictor(channels: int, spatial: bool, variant: Variant) -> nn.Module:
    """Build the paper's efficient diffusion model (section 3.2): bottlenecks for maps, a perceptron for vectors."""
    if spatial:
        blocks = (Bottleneck(channels, 4), Bottleneck(channels, 4))
        return NoisePredictor(channels, nn.Sequential(*blocks, *projection(channels, channels)))
    inner = 4 * channels
    if variant == "paper":  # appendix B.2: two linear layers and an activation; the released width is kept
        two = (Pointwise(channels, inner), nn.ReLU(inplace=True), Pointwise(inner, channels))
        return NoisePredictor(channels, nn.Sequential(*two))
    first = (*projection(channels, inner), nn.ReLU(inplace=True), *projection(inner, channels))
    second = (*projection(channels, inner), nn.ReLU(inplace=True), Pointwise(inner, channels))
    return NoisePredictor(channels, nn.Sequential(*first, *second))


def unet_predictor(channels: int, spatial: bool, variant: Variant) -> nn.Module:
    """Build DDPM's UNet, the same in all variants."""
    if not spatial:
        raise CannotServe("the UNet predicts the noise of maps, not of vectors", "say `branches: [feature]`")
    return UNet(channels)


# By the option `predictor`: channels, whether tensors are maps, variant -> a `diffusion.Predictor`.
PREDICTORS: Mapping[str, Callable[[int, bool, Variant], nn.Module]] = {
    "light": light_predictor,
    "unet": unet_predictor,
}


class NoiseAdapter(nn.Module):
    """The network of adaptive noise matching (section 3.3): it chooses the share of each sample that is kept."""

    def __init__(self, channels: int, spatial: bool) -> None:
        super().__init__()
        if spatial:
            self.features = nn.Sequential(Bottleneck(channels, 8), nn.AdaptiveAvgPool2d(1))
        else:
            wide = 2 * channels
            self.features = nn.Sequential(
                *projection(channels, wide), nn.ReLU(inplace=True), *projection(wide, channels)
            )
        self.choice = nn.Linear(channels, 2)  # the released code has a softmax of two, not a sigmoid of one

    def forward(self, latent: Tensor) -> Tensor:
        """Return gamma, B, between 0 and 1, of a latent B,C,H,W."""
        choice: Tensor = self.choice(self.features(latent).flatten(1))
        return choice.softmax(dim=1)[:, 0]


class Autoencoder(nn.Module):
    """The linear autoencoder of teacher maps (section 3.2): a 1x1 convolution and batch norm, and a 1x1 back."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.encoder = projection(channels, latent)
        self.decoder = Pointwise(latent, channels)

    def forward(self, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent B,L,H,W and the reconstruction B,C,H,W of a map B,C,H,W."""
        latent = self.encoder(teacher)
        return latent, self.decoder(latent)
