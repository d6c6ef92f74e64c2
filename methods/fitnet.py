"""FitNets: hints for thin deep nets (Romero et al., ICLR 2015, arXiv 1412.6550)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import Batch, Losses, Method, Moment, Outputs, Pair
from methods.maps import match_sizes
from methods.options import MethodOptions, option


class Regressor(nn.Module):
    """The regressor from a student map B,S,H,W to the teacher's channels and, at a ratio of two, to its size.

    A batch norm and a ReLU follow the convolution.
    """

    def __init__(self, student: tuple[int, ...], teacher: tuple[int, ...], activated: bool = True) -> None:
        super().__init__()
        channels, sides = (student[0], teacher[0]), (student[1:], teacher[1:])
        self.conv: nn.Module
        if sides[0] == tuple(2 * side for side in sides[1]):
            self.conv = nn.Conv2d(*channels, kernel_size=3, stride=2, padding=1)
        elif tuple(2 * side for side in sides[0]) == sides[1]:
            self.conv = nn.ConvTranspose2d(*channels, kernel_size=4, stride=2, padding=1)
        else:
            self.conv = nn.Conv2d(*channels, kernel_size=1)
        self.bn = nn.BatchNorm2d(channels[1]) if activated else nn.Identity()
        self.activated = activated

    def forward(self, x: Tensor) -> Tensor:
        """Return the regressed map B,T,H',W' of a map B,S,H,W."""
        found: Tensor = self.bn(self.conv(x))
        return F.relu(found) if self.activated else found


class FitNet(Method):
    """FitNet: a regressor on one student stage meets the teacher's stage in mean squared error.

    `weight * mean((ReLU(BN(conv(s))) - t)^2)`, trained jointly with cross-entropy as RepDistiller and mdistiller do;
    the FitNets paper trains with the hint first and has no batch norm.

    The convolution is 1x1 for equal sides, 3x3 with stride 2 where the student's side is twice the teacher's,
    transposed 4x4 with stride 2 where it is half. Other ratios get the 1x1 form and then `resize`, our choice: no CIFAR
    pair of the paper needs it at stage 2. mdistiller takes a convolution 1 + s - t wide for larger students, and fails
    for smaller ones.

    On detectors (Table 4) the hints are the levels of the pyramid, each with a regressor of its own, and their errors
    are added up. Whose run the table shows, and with which locations and weight, is not known.
    """

    taps: tuple[str, ...] = ("stage2",)

    class Options(MethodOptions):
        """Options of FitNet."""

        hint: str = option(
            "stage2",
            "tap of both networks; a pattern such as `fpn.*` takes each role it matches",
            source="RepDistiller: hint layer 2",
        )
        weight: float = option(100.0, "of the hint", source="RepDistiller and mdistiller, CIFAR-100", ge=0)
        resize: Literal["pool", "interpolate"] = option(
            "pool", "what is resized where no convolution form fits", source="ours: unstated"
        )
        activated: bool = option(
            True,
            "a batch norm and a ReLU end the regressor; not where the teacher's map has negative values, as a"
            " pyramid's has",
            source="RepDistiller and mdistiller",
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.taps = (self.options.hint,)

    def build(self, pair: Pair) -> None:
        """Build one regressor for each hint; all hints must be maps."""
        self.roles = self.shared_roles(pair, self.options.hint)
        self.regressors = nn.ModuleList(self._regressor(role, pair) for role in self.roles)

    def _regressor(self, role: str, pair: Pair) -> Regressor:
        student, teacher = pair.student_shapes[role], pair.teacher_shapes[role]
        if len(student) != 3 or len(teacher) != 3:
            self.skip(f"{role} is {student} in the student and {teacher} in the teacher, not two maps")
        return Regressor(student, teacher, self.options.activated)

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return the loss as one term named `hint`, summed over roles."""
        errors = []
        for role, regressor in zip(self.roles, self.regressors, strict=True):
            regressed, target = match_sizes(regressor(student[role]), teacher[role], self.options.resize)
            errors.append(F.mse_loss(regressed, target))
        return Losses({"hint": self.options.weight * (errors[0] if len(errors) == 1 else torch.stack(errors).sum())})
