"""KDiffusion: knowledge distillation by re-parameterising the diffusion reverse process (Yao et al., AAAI 2024).

doi 10.1609/aaai.v38i15.29579. Written from the authors' slides, whose equations are cited by number: neither the
paper's text nor any code is available. Each option says whether its default is the slides' or ours.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.models.taps import Tap, untap
from methods.base import LOGITS, STAGES, AddedRole, Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.kdiffusion.branches import Branches, MeanOfBranches
from methods.kdiffusion.process import reverse_loss, reverse_steps
from methods.kdiffusion.structure import Calls, Site
from methods.maps import match_sizes
from methods.options import MethodOptions, option
from methods.stages import pair_from_deepest, stages


class KDiffusion(Method):
    """KDiffusion: features of parallel linear branches carry the student to the teacher step by step, then merge.

    The convolution that closes a stage is multiplied into m branches, each with a batch norm. Their m outputs are the
    student features `x^S`; their average continues through the student. At export the branches are folded into the one
    convolution and batch norm that they came from (7).

    With `x^T_t = a_t x^T_0 + b_t x^S_n`, the teacher's stage and a student feature mixed (8), and u, v of the posterior
    (10), the loss is the sum over m even steps from time n to 0 of
    `||u x^T_t + v x^T_0 - (u f + v x^S_t)||^2` (12): each feature is what its step takes the teacher to be, and f, made
    of the features before it, what has been reached so far. Features are shuffled over the steps at every iteration,
    for each stage anew, so that each can stand for any step and their average for all (15). Target guidance adds
    `||x^T_0 w - x w||^2`, x the predicted feature and w the weights of the teacher's next layer (14), alone: norms and
    activations in front of that layer are left out. All terms are means over elements.

    For the mixed student feature (4) writes `x^S_0`; `x^S_n`, at the student's end of the process, is our choice.

    `x^T_0` is the stage's output, which the next layer reads. Student features are taken where the slides have them,
    behind the batch norm: in front of a residual sum, and in ShuffleNetV2 of the half of the channels that the last
    unit transforms. Stages are paired from the deepest.
    """

    taps: tuple[str, ...] = (STAGES,)

    class Options(MethodOptions):
        """Options of KDiffusion. The slides' four variants are made by the first three."""

        objective: Literal["diffusion", "average"] = option(
            "diffusion",
            "`diffusion`: the reverse process; `average`: the branches' average against the teacher, nothing else",
            source="slides: the table's Kdiffusion and Average; that Average is the mean of the features is ours",
        )
        layers: Literal["single", "multiple"] = option(
            "multiple",
            "`multiple`: every stage; `single`: the last",
            source="slides: the better of the two; which layers is ours: the last stage feeds the classifier",
        )
        target_guidance: bool = option(
            True, "whether the teacher's next layer is asked too (13, 14)", source="slides: the table's best row"
        )
        branches: int = option(
            4,
            "m, the number of student features and of reverse steps",
            source="ours: unstated. Few, since each keeps a stage's last activations once more in memory",
            ge=1,
        )
        schedule: Literal["cosine", "linear"] = option(
            "cosine",
            "the teacher's amplitude over time: cos(pi t / 2 n), or DDPM's 1000 linear betas",
            source="ours: unstated. After the first of four steps DDPM's has the teacher at 0.06, the cosine at 0.38",
        )
        estimate: Literal["renoised", "mean", "sample"] = option(
            "renoised",
            "f of (12): `renoised` mixes the feature of the step before with x^S_n as the forward process does; `mean`"
            " carries the posterior's mean on, `sample` also the noise of (6)",
            source="ours: f is not defined. Only so does the loss vanish when all features equal the teacher's",
        )
        noise_gradient: bool = option(
            False,
            "whether the gradient flows into the student feature inside the target",
            source="ours: unstated. A target is a constant, as the teacher is",
        )
        shuffle: bool = option(True, "shuffle the features over the steps at each iteration", source="slides")
        predicted: Literal["average", "last"] = option(
            "average",
            "the predicted x_0 of (14): the average of all features, or the one of the last step",
            source="ours: (13) is given all features, and their average is what inference has",
        )
        initial: Literal["independent", "copies"] = option(
            "independent",
            "branches start from draws of their own, or as copies of the convolution: for a student that has weights",
            source="slides: student features are sampled independently",
        )
        bridge: Literal["linear", "none"] = option(
            "linear",
            "what carries features to the teacher's channels, at training only: one 1x1 convolution and batch norm for"
            " all branches of a stage, or nothing, where the channels are equal",
            source="ours: unstated. Linear and normalised, so that features stay what (8) takes them for",
        )
        weight: float = option(1.0, "of the objective", source="slides: (12) has no factor", ge=0)
        guidance_weight: float = option(1.0, "of target guidance", source="slides: (13) has no factor", ge=0)
        resize: Literal["pool", "interpolate"] = option(
            "pool", "maps of unequal size: pool the larger, or interpolate the student's", source="ours: unstated"
        )

    options: Options

    def __init__(self, options: MethodOptions | None = None) -> None:
        super().__init__(options)
        self.levels = nn.ModuleDict()
        self._sites: dict[str, Site] = {}
        self._made: dict[str, Branches] = {}  # in no submodule: they are the student's once it is wrapped
        self._added: dict[str, AddedRole] = {}

    def build(self, pair: Pair) -> None:
        """Draw the branches, and make a level for each pair of stages."""
        if LOGITS not in pair.student_shapes:
            self.skip("its student is a classifier's, merged again when training ends")
        if pair.student.adapter.forward is not None:
            self.skip("the student's family has a forward pass of its own, which knows no further taps")
        paired = pair_from_deepest(stages(pair.student_shapes), stages(pair.teacher_shapes))
        if self.options.layers == "single":
            paired = paired[:1]
            self.taps = (f"stage[{''.join(sorted({role[-1] for role in paired[0]}))}]",)
        student = Calls(pair.student)
        teacher = Calls(pair.teacher) if self.options.target_guidance else None
        for role, teacher_role in paired:
            channels = self._branch(student, role, pair.student_shapes[role])
            target = pair.teacher_shapes[teacher_role][0]
            reader = NextLayer(teacher.layer_after(teacher_role, target)) if teacher is not None else None
            if self.options.bridge == "none" and channels != target:
                self.skip(
                    f"{role} has {channels} channels, the teacher's {teacher_role} {target}, and there is no bridge"
                )
            self.levels[role] = StageBridge(teacher_role, channels, target, reader, self.options)

    def _branch(self, calls: Calls, role: str, shape: tuple[int, ...]) -> int:
        """Draw a stage's branches and return the number of channels of each."""
        site = self._sites[role] = calls.site(role)
        convolution, norm = (calls.network.get_submodule(path) for path in (site.convolution, site.norm))
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        self._made[role] = Branches(convolution, norm, self.options.branches, self.options.initial)
        stacked = (self.options.branches * norm.num_features, *shape[1:])
        self._added[_branches_of(role)] = AddedRole(Tap(site.convolution), stacked)
        return norm.num_features

    def added_roles(self) -> Mapping[str, AddedRole]:
        """Return the role `branches.stageN` of each stage: its branches' features, m C,H,W, one after another."""
        return self._added

    def wrap_student(self, student: nn.Module) -> nn.Module:
        """Return a copy in which branches replace each level's convolution and their average its batch norm."""
        wrapped = _bare_copy(student)
        for role, site in self._sites.items():
            wrapped.set_submodule(site.convolution, copy.deepcopy(self._made[role]))
            wrapped.set_submodule(site.norm, MeanOfBranches(self.options.branches))
        return wrapped

    def merge(self, student: nn.Module) -> nn.Module:
        """Return a copy with each level's branches folded into one convolution and batch norm: the plain student."""
        merged = _bare_copy(student)
        for site in self._sites.values():
            branches = merged.get_submodule(site.convolution)
            assert isinstance(branches, Branches)
            convolution, norm = branches.merged()
            merged.set_submodule(site.convolution, convolution)
            merged.set_submodule(site.norm, norm)
        return merged

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return terms `<stage>.diffusion` or `<stage>.average`, and `<stage>.guidance`."""
        terms: dict[str, Tensor] = {}
        for role, level in self.levels.items():
            assert isinstance(level, StageBridge)
            features, target = level.features(student[_branches_of(role)], teacher[level.teacher_role])
            order = self._order(features, moment)
            features = features if order is None else features[order]
            terms[f"{role}.{self.options.objective}"] = self.options.weight * self._objective(features, target)
            if level.reader is not None:
                predicted = features.mean(dim=0) if self.options.predicted == "average" else features[-1]
                guidance = level.reader(predicted - target).square().mean()  # one pass: the layer is linear
                terms[f"{role}.guidance"] = self.options.guidance_weight * guidance
        return Losses(terms)

    def _order(self, features: Tensor, moment: Moment) -> Tensor | None:
        """Draw a random order of the features. Return None if their order does not matter."""
        if not self.options.shuffle or self.options.objective == "average":
            return None
        return moment.normal_like(features.new_empty(len(features))).argsort()

    def _objective(self, features: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features m,B,C,H,W, noisiest first, against the teacher's B,C,H,W."""
        if self.options.objective == "average":
            return F.mse_loss(features.mean(dim=0), teacher)
        steps = reverse_steps(self.options.schedule, self.options.branches)
        noise = features[0] if self.options.noise_gradient else features[0].detach()
        return reverse_loss(features.unbind(), teacher, noise, steps, self.options.estimate)


class StageBridge(nn.Module):
    """One stage of the student and the teacher's: the bridge between them, and the teacher's layer that reads it."""

    def __init__(
        self,
        teacher_role: str,
        channels: int,
        teacher_channels: int,
        reader: NextLayer | None,
        options: KDiffusion.Options,
    ) -> None:
        super().__init__()
        self.teacher_role, self.reader = teacher_role, reader
        self.count, self.resize = options.branches, options.resize
        self.bridge: nn.Module = nn.Identity()
        if options.bridge == "linear":
            convolution = nn.Conv2d(channels, teacher_channels, kernel_size=1, bias=False)
            self.bridge = nn.Sequential(convolution, nn.BatchNorm2d(teacher_channels))

    def features(self, stacked: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return features m,B,T,h,w and the target B,T,h,w of one size, from B,m C,H,W and the teacher's stage.

        T is the number of the teacher's channels.
        """
        batch, channels, *size = stacked.shape
        each = stacked.view(batch, self.count, channels // self.count, *size).transpose(0, 1).flatten(0, 1)
        bridged, target = match_sizes(self.bridge(each), teacher, self.resize)
        features = bridged.reshape(self.count, *target.shape)
        # Half precision would lose the teacher's small part of a target.
        return at_least_float32(features), at_least_float32(target)


class NextLayer(nn.Module):
    """The weights of the teacher's layer that reads a stage, without its bias, which cancels in a difference."""

    weight: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        # Not saved: every build reads it from the teacher.
        self.register_buffer("weight", layer.weight.detach().clone(), persistent=False)
        self.geometry = None
        if isinstance(layer, nn.Conv2d):
            self.geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def forward(self, stage: Tensor) -> Tensor:
        """Return a stage B,C,H,W passed through the layer; a linear layer reads its mean over positions."""
        if self.geometry is None:
            return F.linear(stage.mean(dim=(2, 3)), self.weight)
        stride, padding, dilation, groups = self.geometry
        return F.conv2d(stage, self.weight, None, stride, padding, dilation, groups)


def _branches_of(role: str) -> str:
    return f"branches.{role}"


def _bare_copy(network: nn.Module) -> nn.Module:
    copied = copy.deepcopy(network)
    untap(copied)
    return copied
