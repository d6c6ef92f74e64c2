"""Plain re-implementations of the operators that `benchmark.models.mmcv_ops` stands in for: one number at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def nms(boxes: list[list[float]], scores: list[float], threshold: float, offset: int) -> list[int]:
    """Greedy suppression by the definition."""
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(_overlap(boxes[index], boxes[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def _overlap(a: list[float], b: list[float], offset: int) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    common = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return common / (sum(areas) - common)


def _inside(channels: Tensor, y: float | Tensor, x: float | Tensor) -> Tensor:
    """Bilinear value of C,H,W at a point; what lies outside counts as zero."""
    found = channels.new_zeros(channels.shape[0])
    low_y, low_x = (math.floor(float(torch.as_tensor(at).detach())) for at in (y, x))
    for row, column in ((low_y + i, low_x + j) for i in (0, 1) for j in (0, 1)):
        if 0 <= row < channels.shape[1] and 0 <= column < channels.shape[2]:
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            found = found + weight * channels[:, row, column]
    return found


def _clamped(channels: Tensor, y: float, x: float) -> Tensor:
    """Bilinear value of C,H,W; points less than one cell outside take the border's."""
    height, width = channels.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return channels.new_zeros(channels.shape[0])
    return _inside(channels, min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1))


def roi_align(maps: Tensor, rois: Tensor, size: tuple[int, int], scale: float, samples: int, aligned: bool) -> Tensor:
    """B,C,H,W and R,5 -> R,C,h,w."""
    shift = 0.5 if aligned else 0.0
    found = []
    for image, *box in rois.tolist():
        left, top, right, bottom = (value * scale - shift for value in box)
        sides = (bottom - top, right - left)
        if not aligned:
            sides = (max(sides[0], 1.0), max(sides[1], 1.0))
        bins = (sides[0] / size[0], sides[1] / size[1])
        counts = [samples or max(1, math.ceil(side)) for side in bins]
        for row in range(size[0]):
            for column in range(size[1]):
                points = [
                    _clamped(
                        maps[int(image)],
                        top + (row + (i + 0.5) / counts[0]) * bins[0],
                        left + (column + (j + 0.5) / counts[1]) * bins[1],
                    )
                    for i in range(counts[0])
                    for j in range(counts[1])
                ]
                found.append(torch.stack(points).mean(dim=0))
    return torch.stack(found).view(len(rois), *size, maps.shape[1]).permute(0, 3, 1, 2)


def deform_conv(
    maps: Tensor, offset: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, groups: int, sets: int
) -> Tensor:
    """Deformable convolution of B,C,H,W; `offset` is B,2*sets*h*w,H',W', each point's y before its x."""
    kernel = weight.shape[2:]
    height, width = offset.shape[2:]
    a_set, a_group, out_group = maps.shape[1] // sets, weight.shape[1], weight.shape[0] // groups
    rows = []
    for image in range(len(maps)):
        for i in range(height):
            for j in range(width):
                columns = []  # C for each point of the kernel
                for point in range(kernel[0] * kernel[1]):
                    row, column = divmod(point, kernel[1])
                    parts = []
                    for part in range(sets):
                        move = offset[image, 2 * (part * kernel[0] * kernel[1] + point) :, i, j]
                        y = i * stride - padding + row * dilation + move[0]
                        x = j * stride - padding + column * dilation + move[1]
                        parts.append(_inside(maps[image, part * a_set : (part + 1) * a_set], y, x))
                    columns.append(torch.cat(parts))
                values = torch.stack(columns, dim=1)  # C, points
                outputs = [
                    (values[group * a_group : (group + 1) * a_group] * weight[out].flatten(1)).sum()
                    for group in range(groups)
                    for out in range(group * out_group, (group + 1) * out_group)
                ]
                rows.append(torch.stack(outputs))
    return torch.stack(rows).view(len(maps), height, width, -1).permute(0, 3, 1, 2)


def focal(logits: Tensor, target: Tensor, gamma: float, alpha: float) -> Tensor:
    """N,C by the paper's formula, one binary problem a class."""
    rows = []
    for row, label in zip(logits, target.tolist(), strict=True):
        for index, logit in enumerate(row):
            p = 1 / (1 + torch.exp(-logit))
            hit = -alpha * (1 - p) ** gamma * torch.log(p)
            miss = -(1 - alpha) * p**gamma * torch.log(1 - p)
            rows.append(hit if index == label else miss)
    return torch.stack(rows).view_as(logits)
