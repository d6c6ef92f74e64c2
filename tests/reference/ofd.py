"""OFD after the connectors: margins by numerical integration, the partial L2 in its three cases."""

import math

from torch import Tensor


def margin(scale: float, bias: float, steps: int = 40000) -> float:
    """The mean of N(bias, scale^2) below zero, by Simpson's rule over twelve deviations."""
    deviation = abs(scale)
    low = min(bias, 0.0) - 12 * deviation
    width = (0.0 - low) / steps
    mass = first = 0.0
    for i in range(steps + 1):
        x = low + i * width
        weight = (1 if i in (0, steps) else 4 if i % 2 else 2) * width / 3
        density = math.exp(-(((x - bias) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
        mass += weight * density
        first += weight * density * x
    return first / mass if mass > 0.001 else -3 * deviation


def partial(student: float, teacher: float, floor: float) -> float:
    if teacher > 0:
        return (student - teacher) ** 2
    if teacher > floor:
        return (student - teacher) ** 2 if student > teacher else 0.0
    return (student - floor) ** 2 if student > floor else 0.0


def loss(connected: list[Tensor], teacher: list[Tensor], margins: list[list[float]]) -> float:
    """Stages from the shallowest, each B,T,H,W."""
    total = 0.0
    for i, (found, target, floors) in enumerate(zip(connected, teacher, margins, strict=True)):
        summed = 0.0
        for c, floor in enumerate(floors):
            pairs = zip(found[:, c].flatten().tolist(), target[:, c].flatten().tolist(), strict=True)
            summed += sum(partial(s, t, floor) for s, t in pairs)
        total += summed / len(found) / 2 ** (len(connected) - 1 - i)
    return total
