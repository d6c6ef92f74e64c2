"""The arithmetic of KDiffusion, number by number in Python floats. Features are lists of numbers, noisiest first."""

import math


def amplitudes(schedule: str, steps: int) -> list[float]:
    """The teacher's share of x at times n, n - t, ..., 0."""
    found = []
    for step in range(steps + 1):
        left = (steps - step) / steps
        if schedule == "cosine":
            found.append(math.cos(math.pi * left / 2))
            continue
        kept = 1.0
        for t in range(round(1000 * left)):
            kept *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        found.append(math.sqrt(kept))
    return found


def posterior(high: float, low: float) -> tuple[float, float, float]:
    """u, v, w by conditioning: x_low is Gaussian around low * x_0, and x_high = ratio * x_low + noise is seen."""
    ratio = high / low
    prior, noise = 1 - low * low, 1 - ratio * ratio
    gain = prior * ratio / (ratio * ratio * prior + noise)
    return gain, low * (1 - gain * ratio), prior * (1 - gain * ratio)


def objective(features: list[list[float]], teacher: list[float], schedule: str, how: str) -> float:
    """Equation (12) over all steps, a mean over the numbers of a feature; the noise is the first feature."""
    shares, total = amplitudes(schedule, len(features)), 0.0
    for i, x_0 in enumerate(teacher):
        noise = features[0][i]
        reached = noise
        for step, feature in enumerate(features):
            high, low = shares[step], shares[step + 1]
            u, v, w = posterior(high, low)
            if how == "renoised":
                before = features[step - 1][i] if step else noise
                reached = high * before + math.sqrt(1 - high * high) * noise
            x_t = high * x_0 + math.sqrt(1 - high * high) * noise
            total += (u * x_t + v * x_0 - u * reached - v * feature[i]) ** 2
            reached = u * reached + v * feature[i] + (math.sqrt(w) * noise if how == "sample" else 0.0)
    return total / len(teacher)


def through_classifier(maps: list[list[list[list[float]]]], weight: list[list[float]]) -> list[float]:
    """Maps B,C,H,W as nested lists: means over positions times the weights, all samples in one list."""
    found = []
    for sample in maps:
        means = [sum(map(sum, channel)) / (len(channel) * len(channel[0])) for channel in sample]
        found += [sum(w * x for w, x in zip(line, means, strict=True)) for line in weight]
    return found


def through_convolution(
    maps: list[list[list[list[float]]]], weight: list[list[list[list[float]]]], stride: int, padding: int
) -> list[float]:
    """Maps B,C,H,W and weights O,C,k,k as nested lists: every output, all samples in one list."""
    found = []
    for sample in maps:
        height, width, size = len(sample[0]), len(sample[0][0]), len(weight[0][0])
        for kernel in weight:
            for top in range(-padding, height + padding - size + 1, stride):
                for left in range(-padding, width + padding - size + 1, stride):
                    value = 0.0
                    for channel, plane in zip(sample, kernel, strict=True):
                        for y in range(max(0, top), min(height, top + size)):
                            for x in range(max(0, left), min(width, left + size)):
                                value += channel[y][x] * plane[y - top][x - left]
                    found.append(value)
    return found


def mean_square(ours: list[float], theirs: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True)) / len(ours)
