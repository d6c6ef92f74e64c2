"""Trajectories: the tiny student and teacher of the training trajectories, as a user's own network in one file."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from benchmark.models.taps import Adapter, Tap

MODELS = {
    "trajectory_student": {"widths": [8, 16, 32], "depth": 1},
    "trajectory_teacher": {"widths": [16, 32, 64], "depth": 2},
}


class Unit(nn.Sequential):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.relu = nn.ReLU()


class Net(nn.Module):
    """A stem, three stages of `depth` units, pooling and a classifier."""

    def __init__(self, widths: Sequence[int], depth: int, classes: int) -> None:
        super().__init__()
        self.stem = Unit(3, widths[0], 1)
        for i, width in enumerate(widths):
            units = [Unit(widths[max(0, i - 1)], width, 1 if i == 0 else 2)]
            units += [Unit(width, width, 1) for _ in range(depth - 1)]
            setattr(self, f"stage{i + 1}", nn.Sequential(*units))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.fc(self.pool(self.stage3(self.stage2(self.stage1(self.stem(inputs))))).flatten(1))
        return out


def build(name: str, classes: int, widths: Sequence[int], depth: int) -> nn.Module:
    return Net(widths, depth, classes)


def adapter(network: nn.Module) -> Adapter:
    taps = {"stem": Tap("stem")}
    for stage in ("stage1", "stage2", "stage3"):
        norm = f"{stage}.{len(network.get_submodule(stage)) - 1}.norm"
        taps |= {f"{stage}.preact": Tap(norm, norm=norm), stage: Tap(stage)}
    ends = {"pre_pool": Tap("pool", at="input"), "embedding": Tap("fc", at="input"), "logits": Tap("fc")}
    return Adapter(taps | ends, classifier="fc")
