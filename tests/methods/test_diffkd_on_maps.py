"""DiffKD where a segmentation network predicts: on maps of class scores, with DIST as the distance."""

from __future__ import annotations

import torch
from segmentation_pair import segmentation_setup

from benchmark.models.taps import resolve_roles
from methods.base import Moment
from methods.spec import MethodSpec

TABLE_6 = {"diffkd": {"branches": ["feature"], "feature_tap": "seg_logits", "feature_distance": {"dist": {}}}}


def test_it_trains_the_student_from_its_class_scores_alone() -> None:
    setup = segmentation_setup(auxiliary=False)
    method = setup.build(MethodSpec.parse(TABLE_6).make())
    assert resolve_roles(method.taps, setup.pair.student_shapes) == ("seg_logits",)
    optimiser = torch.optim.Adam([*setup.student.parameters(), *method.parameters()], lr=1e-2)
    values = []
    for _ in range(30):
        now = Moment(torch.tensor(9.0), torch.tensor(0.5), torch.Generator().manual_seed(0))
        losses = method.losses(*setup.outputs(), setup.batch, now)
        assert set(losses.terms) == {"feature.distillation", "feature.diffusion"}  # scores need no autoencoder
        optimiser.zero_grad()
        torch.stack(list(losses.terms.values())).sum().backward()
        optimiser.step()
        values.append(float(losses.terms["feature.distillation"].detach()))
    # DIST is 2 for scores that have nothing to do with each other, and 0 for equal ones.
    assert values[-1] < 0.5 * values[0]
    assert all(parameter.grad is None for parameter in setup.pair.teacher.parameters())
