"""FGD: focal and global knowledge distillation for detectors (Yang et al., CVPR 2022, arXiv 2111.11837)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.attention import channel_attention, object_masks, spatial_attention
from methods.base import Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.options import MethodOptions, option


class GlobalContext(nn.Module):
    """GcNet's block: a map plus a value for every channel, computed from the map's attended sum, B,C,H,W to B,C,H,W."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.mask = nn.Conv2d(channels, 1, kernel_size=1)
        nn.init.kaiming_normal_(self.mask.weight, mode="fan_in")  # the authors' start, of the bias too
        nn.init.zeros_(self.mask.bias)  # type: ignore[arg-type]
        last = nn.Conv2d(inner, channels, kernel_size=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)  # so that training starts from the bare maps
        norm = nn.LayerNorm([inner, 1, 1])
        self.add = nn.Sequential(nn.Conv2d(channels, inner, kernel_size=1), norm, nn.ReLU(inplace=True), last)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map B,C,H,W with its global context added."""
        attention = self.mask(features).flatten(2).softmax(dim=2)
        context = torch.einsum("bcp,bp->bc", features.flatten(2), attention[:, 0])
        out: Tensor = features + self.add(context[:, :, None, None])
        return out


class FGDLevel(nn.Module):
    """One level of the pyramid: the alignment of the student's channels, and both global contexts."""

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(student, teacher, kernel_size=1) if student != teacher else nn.Identity()
        self.student_context, self.teacher_context = GlobalContext(teacher), GlobalContext(teacher)

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> dict[str, Tensor]:
        """Return the four unweighted terms of maps B,S,H,W and B,T,H,W."""
        found, target = (at_least_float32(x) for x in (self.align(student), teacher))
        foreground, background = object_masks(batch.boxes(), target)
        spatial, channel = spatial_attention(target, temperature), channel_attention(target, temperature)
        # The teacher's attention weights both maps.
        error = (found - target).square() * spatial * channel
        apart = (spatial_attention(found, temperature) - spatial).abs().sum()
        apart = apart + (channel_attention(found, temperature) - channel).abs().sum()
        relation = (self.student_context(found) - self.teacher_context(target)).square().sum()
        sums = {
            "foreground": (error * foreground).sum(),
            "background": (error * background).sum(),
            "attention": apart,
            "global": relation,
        }
        return {name: value / len(target) for name, value in sums.items()}


class FGD(Method):
    """FGD: weight feature errors by the objects' areas and the teacher's attention, and compare global relations.

    For each level of the pyramid, with `A` the product of the teacher's spatial and channel attention, `M` one over the
    area of the smallest object at a position, and `N` one over the number of positions without any object:
    `alpha sum(M A (s - t)^2) + beta sum(N A (s - t)^2) + gamma |A_s - A_t|_1 + lambda sum((R_s(s) - R_t(t))^2)`, mean
    over images. `R` is a global context block for each network; both are trained, also the teacher's.

    The defaults are the released code's for RetinaNet. Its other settings: two-stage detectors 5e-5, 2.5e-5, 5e-5 and
    5e-7 on `fpn.[0-3]` (the pooled level is left out); FCOS and RepPoints 1.6e-3, 8e-4, 8e-4 and 8e-6, FCOS with
    temperature 0.8. The paper's section 4.2 has gamma 1e-3 (anchor-based one-stage) and 8e-3 (anchor-free), and
    temperature 0.5 for all.
    """

    taps: tuple[str, ...] = ("fpn.[0-9]",)

    class Options(MethodOptions):
        """Options of FGD."""

        tap: str = option(
            "fpn.[0-9]",
            "levels of both networks; `fpn.[0-3]` leaves the pooled one of two-stage detectors out, `fpn_conv.*` are"
            " those before the group norm of RepPoints' pyramid",
            source="FGD's code: five levels on one stage, four on two, all at neck.fpn_convs.N.conv",
        )
        foreground_weight: float = option(1e-3, "alpha", source="FGD's code, RetinaNet; 5e-5 on two stages", ge=0)
        background_weight: float = option(5e-4, "beta", source="FGD's code, RetinaNet; 2.5e-5 on two stages", ge=0)
        attention_weight: float = option(5e-4, "gamma", source="FGD's code, RetinaNet; 5e-5 on two stages", ge=0)
        global_weight: float = option(5e-6, "lambda", source="FGD's code, RetinaNet; 5e-7 on two stages", ge=0)
        temperature: float = option(0.5, "softens the attentions", source="FGD's code; 0.8 on FCOS", gt=0)

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.taps = (self.options.tap,)

    def build(self, pair: Pair) -> None:
        """Build one pair of contexts for each level. The data must have ground-truth boxes."""
        if pair.task != "detection":
            self.skip(f"it needs ground-truth boxes, which {pair.task} has not")
        self.roles = self.pyramid_roles(pair, self.options.tap)
        self.pyramid = nn.ModuleList(
            FGDLevel(pair.student_shapes[role][0], pair.teacher_shapes[role][0]) for role in self.roles
        )

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return four loss terms, `foreground`, `background`, `attention` and `global`, each summed over levels."""
        o = self.options
        weights = {
            "foreground": o.foreground_weight,
            "background": o.background_weight,
            "attention": o.attention_weight,
            "global": o.global_weight,
        }
        found = [
            level(student[role], teacher[role], batch, o.temperature)
            for role, level in zip(self.roles, self.pyramid, strict=True)
        ]
        return Losses({term: w * torch.stack([level[term] for level in found]).sum() for term, w in weights.items()})
