"""MasKD on the pyramids of detectors (Huang et al., ICLR 2023, arXiv 2205.14589)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark.errors import MissingInput
from benchmark.models.checkpoints import WeightFile
from methods.base import Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.maskd import EMPTY, START, masked, masked_errors, masks_of, overlap
from methods.options import MethodOptions, option

# As MasKD's files name them, behind `mask_modules.LEVEL.`
_PUBLISHED = {"mask_token": "tokens", "prob.": "weigh."}


class Level(nn.Module):
    """One level's tokens, and the network that weights each token for an image."""

    def __init__(self, count: int, channels: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(START * torch.randn(count, channels))
        first, last = nn.Conv2d(channels, channels, kernel_size=3, padding=1), nn.Conv2d(channels, count, kernel_size=1)
        for conv in (first, last):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")  # the authors' start, of the biases too
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.weigh = nn.Sequential(first, nn.AdaptiveAvgPool2d(1), last)

    def masks(self, maps: Tensor) -> Tensor:
        """Return the masks B,K,H,W in (0, 1) of maps B,C,H,W."""
        return masks_of(self.tokens, maps)

    def weights(self, teacher: Tensor) -> Tensor:
        """Return the weights B,K of the tokens for maps B,C,H,W; their sum is one."""
        return at_least_float32(self.weigh(teacher).flatten(1)).softmax(dim=1)


class MasKDDetection(Method):
    """MasKD for detectors: the squared error of pyramid maps, within masks that receptive tokens find.

    A token `k` masks `m_k = sigmoid(k . t)` of a level's map `t`, and counts `w = softmax(conv1x1(mean(conv3x3(t))))`.
    Each level's term is the mean over samples of `sum_k w_k mean over channels of sum(m_k^2 (a(s) - t)^2) / sum(m_k)`,
    `a` a 1x1 convolution with bias. After the warm-up a mask is the student's too, without gradient:
    `m_k = sigmoid(k . t) sigmoid(k . a(s))`. MasKD has `regressionkd` beside it, except on FCOS.

    The source learns tokens and their weights on the teacher before (2,000 iterations), so that the teacher, with
    `sum_k w_k m_k t` for its maps, still detects, while masks of two tokens overlap little (dice). Give such a file as
    `learned`. Without, they learn beside the student, by its optimiser, and in place of the teacher's detection loss is
    `sum((t - sum_k w_k m_k t)^2) / sum(t^2)`: what the masks lose of the map. That is ours, and not the source.

    The defaults are those of Faster R-CNN-R101. The others' weight and warm-up: Cascade R-CNN-X101 1 and 5,000;
    RetinaNet-R101 7 and 7,000, -X101 7 and 8,500; FCOS and RepPoints 10 and 5,000.
    """

    name = "maskd_detection"
    taps: tuple[str, ...] = ("fpn.[0-9]",)

    class Options(MethodOptions):
        """Options of MasKD for detectors."""

        tap: str = option("fpn.[0-9]", "levels of both networks", source="MasKD, mmrazor configurations: all five")
        weight: float = option(
            1.0, "of the masked errors", source="MasKD, Faster R-CNN; 7 RetinaNet, 10 FCOS and RepPoints", ge=0
        )
        count: int = option(6, "tokens of a level", source="MasKD, mmrazor configurations", ge=2)
        custom_mask: bool = option(
            True, "multiply the masks by the student's own after the warm-up", source="MasKD, mmrazor configurations"
        )
        custom_mask_warmup: int = option(
            7330, "steps before that", source="MasKD, Faster R-CNN; 5000, 7000 or 8500 for other detectors", ge=0
        )
        learned: str = option(
            "", "file of tokens learned before; none: they learn beside the student", source="MasKD releases them"
        )
        token_weight: float = option(
            1.0, "of what trains the tokens here", source="MasKD, mmdetection/maskd_hook.py: of the overlap", ge=0
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.taps = (self.options.tap,)

    def build(self, pair: Pair) -> None:
        """Build an alignment and tokens for each level; learned tokens are fixed."""
        self.roles = self.pyramid_roles(pair, self.options.tap)
        widths = [(pair.student_shapes[role][0], pair.teacher_shapes[role][0]) for role in self.roles]
        self.align = nn.ModuleList(nn.Conv2d(student, teacher, kernel_size=1) for student, teacher in widths)
        self.levels = nn.ModuleList(Level(self.options.count, teacher) for _, teacher in widths)
        if self.options.learned:
            self._fix(Path(self.options.learned).expanduser())

    def _fix(self, path: Path) -> None:
        if not path.is_file():
            raise MissingInput(
                f"no learned tokens at {path}", "fetch them from the releases of MasKD, or leave `learned` out"
            )
        file = WeightFile.read(path)
        self.files = {"tokens": file.facts}
        state = {}
        for name, tensor in file.tensors().items():
            _, found, rest = name.partition("mask_modules.")
            level, _, part = rest.partition(".")
            for theirs, ours in _PUBLISHED.items():
                if found and part.startswith(theirs):
                    state[f"{level}.{ours}{part.removeprefix(theirs)}"] = tensor
        try:
            self.levels.load_state_dict(state)
        except RuntimeError as error:
            raise MissingInput(
                f"{path} does not hold {self.options.count} tokens for each of {', '.join(self.roles)}: "
                f"{str(error).splitlines()[1].strip()}",
                "name the file that was learned on this teacher, or set `count` and `tap` to what it holds",
            ) from error
        self.levels.requires_grad_(False)

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the term `masked`, and `lost` and `dice` of tokens that learn, each summed over levels."""
        o = self.options
        errors, lost, dice = [], [], []
        for role, align, level in zip(self.roles, self.align, self.levels, strict=True):
            assert isinstance(level, Level)
            found, target = at_least_float32(align(student[role])), at_least_float32(teacher[role])
            masks, weights = level.masks(target), level.weights(target)
            used = masks.detach()
            if o.custom_mask:
                is_late = moment.ramp(o.custom_mask_warmup) >= 1
                used = used * torch.where(is_late, level.masks(found).detach(), 1.0)
            errors.append(weighted(masked_errors(used, found, target, EMPTY), weights.detach()))
            if not o.learned:
                kept = masked(masks * weights[:, :, None, None], target)
                lost.append((target - kept).square().sum() / target.square().sum().clamp(min=EMPTY))
                dice.append(overlap(masks))
        terms = {"masked": o.weight * torch.stack(errors).sum()}
        if not o.learned:
            terms["lost"] = o.token_weight * torch.stack(lost).sum()
            terms["dice"] = o.token_weight * torch.stack(dice).sum()
        return Losses(terms)


def weighted(errors: Tensor, weights: Tensor) -> Tensor:
    """Return errors B,K,C weighted by B,K and summed over tokens, mean over samples and channels."""
    return (errors.mean(dim=2) * weights).sum(dim=1).mean()
