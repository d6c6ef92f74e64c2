"""A 1x1 convolution without bias and a batch norm in train mode, position by position: OFD's and SRRL's connectors."""

import math

from torch import Tensor


def connected(maps: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """B,S,H,W to B,T,H,W."""
    batch, _, height, width = maps.shape
    out = maps.new_zeros(batch, len(weight), height, width)
    for t in range(len(weight)):
        for b in range(batch):
            for y in range(height):
                for x in range(width):
                    pixel, line = maps[b, :, y, x].tolist(), weight[t].flatten().tolist()
                    out[b, t, y, x] = sum(w * v for w, v in zip(line, pixel, strict=True))
        values = out[:, t].flatten().tolist()
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        out[:, t] = (out[:, t] - mean) / math.sqrt(variance + 1e-5) * scale[t] + shift[t]
    return out
