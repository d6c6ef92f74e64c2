"""The cost that a method adds to a training step, counted on tensors without memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmark.models.counting import on_meta, parameters
from benchmark.models.taps import resolve_roles
from benchmark.paper.datasets import counted_on
from methods.base import Batch, Method, Moment, Pair


def pair_on_meta(student: str, teacher: str, data: str) -> Pair:
    """Build a student and a teacher on tensors without memory, as a method's `build` sees them."""
    known = counted_on(data)
    networks = on_meta(student, known.classes), on_meta(teacher, known.classes)
    # Two images, because batch norm in training needs more than one value for each channel.
    example = torch.empty((2, *known.trained), device="meta")
    return Pair(
        student=networks[0],
        teacher=networks[1],
        student_shapes=networks[0].shapes(example),
        teacher_shapes=networks[1].shapes(example),
        classes=known.classes,
        dataset_size=known.remembered or known.training,
        task=known.task,
        labels=torch.arange(known.remembered or known.training) % known.classes,
    )


def build_on_meta(method: Method, pair: Pair) -> Method:
    """Build the method's side networks for a pair of networks on the meta device.

    Raises:
        CannotServe: a network lacks a tap of the method, or the method's `build` refuses the pair.
    """
    for shapes in (pair.student_shapes, pair.teacher_shapes):
        resolve_roles(method.taps, shapes)
    with torch.device("meta"):
        method.build(pair)
    return method


@dataclass(frozen=True)
class MethodCost:
    """The cost that a method adds to a training step: parameters of its side networks, and multiply-adds per image.

    The multiply-adds are those of everything between the tapped tensors and the loss, all denoising steps included.
    The passes of student and teacher are not counted.
    """

    parameters: int
    forward: int
    backward: int


def method_cost(method: Method, pair: Pair, batch: int) -> MethodCost:
    """Count the cost per image of a method that `build_on_meta` has built.

    It depends on the batch for methods that compare images with each other.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        method.to_empty(device="cpu")
        added = {role: found.shape for role, found in method.added_roles().items()}
        student, teacher = (
            {role: torch.empty((batch, *shape)) for role, shape in shapes.items()}
            for shapes in ({**pair.student_shapes, **added}, pair.teacher_shapes)
        )
        for tensor in student.values():
            tensor.requires_grad_()
        indices = torch.empty(batch, dtype=torch.int64)
        labels = indices
        if pair.task == "segmentation":  # a label for each pixel
            labels = torch.empty((batch, *counted_on("cityscapes").counted[1:]), dtype=torch.int64)
        moment = Moment(torch.zeros(()), torch.zeros(()), torch.Generator(), step=torch.zeros(()))
        with FlopCounterMode(display=False) as counter:
            losses = method.losses(student, teacher, Batch(torch.empty(batch), labels, indices), moment)
            forward = int(counter.get_total_flops())
            if losses.terms:
                sum(losses.terms.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
            backward = int(counter.get_total_flops()) - forward
    return MethodCost(parameters(method), forward // (2 * batch), backward // (2 * batch))
