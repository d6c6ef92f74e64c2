"""DDPM's UNet from its weights, with the skips spelled out by hand for five sizes."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def forward(weights: Weights, noisy: Tensor, timesteps: list[int], width: int) -> Tensor:
    """One image at a time, B,C,H,W."""
    return torch.cat([_one(weights, image[None], t, width) for image, t in zip(noisy, timesteps, strict=True)])


def _one(w: Weights, x: Tensor, timestep: int, width: int) -> Tensor:
    half = width // 2
    phases = [timestep * 10000 ** (-i / (half - 1)) for i in range(half)]
    waves = x.new_tensor([math.sin(p) for p in phases] + [math.cos(p) for p in phases])
    hidden = w["time.0.weight"] @ waves + w["time.0.bias"]
    time = w["time.2.weight"] @ (hidden / (1 + torch.exp(-hidden))) + w["time.2.bias"]
    first = _conv(w, "first", x)
    b0 = _block(w, "down.0", first, time)
    s0 = _conv(w, "shrink.0", b0, stride=2)
    b1 = _block(w, "down.1", s0, time)
    s1 = _conv(w, "shrink.1", b1, stride=2)
    b2 = _block(w, "down.2", s1, time)
    s2 = _conv(w, "shrink.2", b2, stride=2)
    b3 = _block(w, "down.3", s2, time)
    s3 = _conv(w, "shrink.3", b3, stride=2)
    b4 = _block(w, "down.4", s3, time, attention=True)
    x = _block(w, "middle.1", _block(w, "middle.0", b4, time, attention=True), time)
    skips = [(b4, s3), (b3, s2), (b2, s1), (b1, s0), (b0, first)]
    for size, (here, above) in enumerate(skips):
        if size > 0:
            rows = [y * x.shape[2] // here.shape[2] for y in range(here.shape[2])]
            columns = [c * x.shape[3] // here.shape[3] for c in range(here.shape[3])]
            x = _conv(w, f"grow.{size - 1}", x[:, :, rows][:, :, :, columns])
        x = _block(w, f"up.{2 * size}", torch.cat((x, here), dim=1), time, attention=size == 0)
        x = _block(w, f"up.{2 * size + 1}", torch.cat((x, above), dim=1), time, attention=size == 0)
    return _conv(w, "last.2", _active(w, "last.0", x))


def _conv(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = w[f"{name}.weight"]
    return F.conv2d(x, kernel, w[f"{name}.bias"], stride, padding=kernel.shape[2] // 2)


def _normed(w: Weights, name: str, x: Tensor) -> Tensor:
    groups = torch.stack([_standard(group) for group in x[0].chunk(32)]).view(x.shape)
    return groups * w[f"{name}.weight"].view(1, -1, 1, 1) + w[f"{name}.bias"].view(1, -1, 1, 1)


def _standard(values: Tensor) -> Tensor:
    mean = values.sum() / values.numel()
    return (values - mean) / torch.sqrt(((values - mean) ** 2).sum() / values.numel() + 1e-5)


def _active(w: Weights, name: str, x: Tensor) -> Tensor:
    found = _normed(w, name, x)
    return found / (1 + torch.exp(-found))


def _block(w: Weights, name: str, x: Tensor, time: Tensor, attention: bool = False) -> Tensor:
    active = time / (1 + torch.exp(-time))
    shift = w[f"{name}.time.weight"] @ active + w[f"{name}.time.bias"]
    hidden = _conv(w, f"{name}.first.2", _active(w, f"{name}.first.0", x)) + shift.view(1, -1, 1, 1)
    shortcut = _conv(w, f"{name}.shortcut", x) if f"{name}.shortcut.weight" in w else x
    x = shortcut + _conv(w, f"{name}.second.2", _active(w, f"{name}.second.0", hidden))
    return _attended(w, f"{name}.attention", x) if attention else x


def _attended(w: Weights, name: str, x: Tensor) -> Tensor:
    query, key, value = (
        part[0].flatten(1)
        for part in _conv(w, f"{name}.query_key_value", _normed(w, f"{name}.norm", x)).chunk(3, dim=1)
    )
    found = torch.empty_like(value)
    for position in range(value.shape[1]):
        scores = [math.exp(float(query[:, position] @ other) / math.sqrt(len(query))) for other in key.T]
        found[:, position] = sum(score / sum(scores) * v for score, v in zip(scores, value.T, strict=True))
    return x + _conv(w, f"{name}.out", found.view(x.shape))
