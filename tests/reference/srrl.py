"""SRRL after the connector and its ReLU, sample by sample."""

from torch import Tensor


def means(image: Tensor) -> list[float]:
    """C,H,W to C."""
    return [sum(channel.flatten().tolist()) / channel.numel() for channel in image]


def loss(connected: Tensor, teacher: Tensor, logits: Tensor, weight: Tensor, bias: Tensor) -> tuple[float, float]:
    """The feature term and the regression term."""
    feature, regression = [], []
    for b in range(len(connected)):
        mine = means(connected[b])
        feature += [(m - t) ** 2 for m, t in zip(mine, means(teacher[b]), strict=True)]
        for k, line in enumerate(weight.tolist()):
            score = sum(w * m for w, m in zip(line, mine, strict=True)) + float(bias[k])
            regression.append((score - float(logits[b, k])) ** 2)
    return sum(feature) / len(feature), sum(regression) / len(regression)
