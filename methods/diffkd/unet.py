"""The noise predictor of DDPM (Ho et al., NeurIPS 2020, arXiv 2006.11239), for Table 12."""

from __future__ import annotations

from itertools import pairwise
from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# DDPM's architecture. Table 12 gives 13.62 M parameters for 256 channels and 4.9 times the light predictor's
# multiply-adds, not the sizes: these come to 13.29 M and 4.5 times.
WIDTH = 64
MULTIPLIERS = (1, 1, 2, 2, 4)  # of the width, by size; each size is half the one before
GROUPS = 32  # DDPM
LONGEST_PERIOD = 10_000  # of the sinusoids of a timestep, DDPM


class Block(nn.Module):
    """A residual block between two widths that also reads the timestep, followed by self-attention if asked."""

    def __init__(self, channels: int, out: int, time: int, attention: bool) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.time = nn.Linear(time, out)
        last = _silent(nn.Conv2d(out, out, 3, padding=1))
        # DDPM drops a tenth of the activations here. Features are no images, and denoising must not depend on it.
        self.second = nn.Sequential(nn.GroupNorm(GROUPS, out), nn.SiLU(), last)
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        self.attention = Attention(out) if attention else nn.Identity()

    def forward(self, inputs: Tensor, time: Tensor) -> Tensor:
        """Return a map B,out,H,W from a map B,C,H,W and time embeddings B,T (or 1,T)."""
        hidden = self.first(inputs) + self.time(F.silu(time))[:, :, None, None]
        out: Tensor = self.attention(self.shortcut(inputs) + self.second(hidden))
        return out


class Attention(nn.Module):
    """Self-attention of one head over the positions of a map, added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _silent(nn.Conv2d(channels, channels, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the map B,C,H,W plus its self-attention."""
        query, key, value = self.query_key_value(self.norm(inputs)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        found = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = inputs + self.out(found.transpose(1, 2).reshape(inputs.shape))
        return out


class UNet(nn.Module):
    """The predictor of the noise in a map at a timestep: down to a 16th of its size and up again.

    Every size is seen twice. Any height and width is accepted: half of an odd size is rounded up, and the size is
    restored on the way up.
    """

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [WIDTH * factor for factor in MULTIPLIERS]
        time = 4 * WIDTH
        exponents = torch.arange(WIDTH // 2, dtype=torch.float32) / (WIDTH // 2 - 1)
        self.register_buffer("frequencies", torch.exp(-log(LONGEST_PERIOD) * exponents), persistent=False)
        self.time = nn.Sequential(nn.Linear(WIDTH, time), nn.SiLU(), nn.Linear(time, time))
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        coarsest = len(widths) - 1
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for size, (before, width) in enumerate(pairwise([widths[0], *widths])):
            self.down.append(Block(before, width, time, attention=size == coarsest))
            if size < coarsest:
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        ends = widths[coarsest]
        self.middle = nn.ModuleList((Block(ends, ends, time, attention=True), Block(ends, ends, time, attention=False)))
        below = ends
        for size in reversed(range(len(widths))):
            # What this size's block made on the way down, and what came to it from the size above.
            width, above = widths[size], widths[max(0, size - 1)]
            self.up.append(Block(below + width, width, time, attention=size == coarsest))
            self.up.append(Block(width + above, width, time, attention=size == coarsest))
            if size > 0:
                self.grow.append(nn.Conv2d(width, width, 3, padding=1))
            below = width
        last = _silent(nn.Conv2d(widths[0], channels, 3, padding=1))
        self.last = nn.Sequential(nn.GroupNorm(GROUPS, widths[0]), nn.SiLU(), last)

    def forward(self, noisy: Tensor, timestep: Tensor | int) -> Tensor:
        """Return the noise B,C,H,W of a map B,C,H,W; `timestep` is one number for all samples, or a tensor B."""
        time = self._time(timestep)
        hidden = self.first(noisy)
        seen = [hidden]
        for index, block in enumerate(self.down):
            hidden = block(hidden, time)
            seen.append(hidden)
            if index < len(self.shrink):
                hidden = self.shrink[index](hidden)
                seen.append(hidden)
        for block in self.middle:
            hidden = block(hidden, time)
        for index, block in enumerate(self.up):
            if index and index % 2 == 0:
                hidden = F.interpolate(hidden, size=seen[-1].shape[2:], mode="nearest")
                hidden = self.grow[index // 2 - 1](hidden)
            hidden = block(torch.cat((hidden, seen.pop()), dim=1), time)
        noise: Tensor = self.last(hidden)
        return noise

    def _time(self, timestep: Tensor | int) -> Tensor:
        # A plain number meets the frequencies on their device: nothing is copied there.
        phases = (
            timestep * self.frequencies[None] if isinstance(timestep, int) else timestep[:, None] * self.frequencies
        )
        time: Tensor = self.time(torch.cat((phases.sin(), phases.cos()), dim=1))
        return time


def _silent(conv: nn.Conv2d) -> nn.Conv2d:
    """Set a convolution to zero, as DDPM does at the end of a residual branch and of the network."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv
