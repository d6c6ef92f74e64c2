"""CIRKD: cross-image relational knowledge distillation (Yang et al., CVPR 2022, arXiv 2204.06986)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import SEG_FEATURE, SEG_LOGITS, Batch, Losses, Method, Moment, Outputs, Pair, at_least_float32
from methods.cwd import pixel_divergence
from methods.options import MethodOptions, option

_DRAW = 2**62  # sorting draws below this permutes uniformly: ties are out of reach


class CIRKD(Method):
    """CIRKD: pixels must be as similar to those of other images in the student as they are in the teacher.

    Features are L2-normalised over channels. With `r(x, Y) = softmax(x . Y / T)` a pixel's similarities to pixels `Y`:
    `pixel`: pixel KD; `batch`: `KL(r_t || r_s)` with `Y` every image of one device's few in turn, mean over pixels and
    ordered pairs of images; `memory_pixel`, `memory_region`: the same with `Y` rows drawn from queues of teacher
    pixels and of teacher class means, the student's features projected first; mean over the labelled pixels.

    Queues hold one part a class and are filled by all ranks, before rows are drawn from them. The gathered rows are
    chosen where they were computed, so that the queues are the same on every rank.
    """

    taps = (SEG_FEATURE, SEG_LOGITS)

    class Options(MethodOptions):
        """Options of CIRKD."""

        pixel_weight: float = option(1.0, "of pixel KD", source="CIRKD, train_kd.py", ge=0)
        batch_weight: float = option(1.0, "of the mini-batch term", source="CIRKD, train_kd.py", ge=0)
        memory_pixel_weight: float = option(0.1, "of the pixel queue's", source="CIRKD, Cityscapes; VOC 0.01", ge=0)
        memory_region_weight: float = option(0.1, "of the region queue's", source="CIRKD, Cityscapes; VOC 0.01", ge=0)
        together: int = option(2, "images compared with each other", source="CIRKD: one GPU's batch, 16 on 8", ge=1)
        temperature: float = option(0.1, "of all similarities", source="CIRKD, train_kd.py", gt=0)
        pixel_queue: int = option(20000, "pixels kept of each class", source="CIRKD, train_kd.py", ge=1)
        region_queue: int = option(2000, "class means kept of each class", source="CIRKD, train_kd.py", ge=1)
        pixel_contrast: int = option(
            4096, "pixels drawn, over all classes: n // classes + 1 of each", source="CIRKD, train_kd.py", ge=0
        )
        region_contrast: int = option(
            1024, "class means drawn, over all classes: n // classes + 1 of each", source="CIRKD, train_kd.py", ge=0
        )
        enqueued: int = option(16, "pixels of a class that an image gives to the queue", source="CIRKD", ge=1)
        positions: Literal["first", "class"] = option(
            "first",
            "where those of a class of n pixels are taken: among the image's first n, or among its own",
            source="CIRKD, losses/memory_loss.py, which permutes 0..n-1 and indexes the whole map with it",
        )

    options: Options
    pixels: Tensor
    pixel_pointer: Tensor
    regions: Tensor
    region_pointer: Tensor

    def build(self, pair: Pair) -> None:
        """Build the student's projection, and queues of random unit vectors."""
        student, teacher = pair.student_shapes[SEG_FEATURE], pair.teacher_shapes[SEG_FEATURE]
        if student[1:] != teacher[1:]:
            self.skip(f"{SEG_FEATURE} is {student} in the student and {teacher} in the teacher, not of one size")
        width = teacher[0]
        self.project = nn.Sequential(
            nn.Conv2d(student[0], width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1, bias=False),
        )
        for name, length in (("pixel", self.options.pixel_queue), ("region", self.options.region_queue)):
            queue = F.normalize(torch.randn(pair.classes, length, width), dim=2)
            self.register_buffer(f"{name}s", queue)
            self.register_buffer(f"{name}_pointer", torch.zeros(pair.classes, dtype=torch.int64))

    def losses(self, student: Outputs, teacher: Outputs, batch: Batch, moment: Moment) -> Losses:
        """Return four loss terms. `batch.targets` are B,H,W; values that are no class are ignored."""
        o = self.options
        projected = self.project(student[SEG_FEATURE])
        labels = _labels_at(batch.targets, projected.shape[-2:])
        with torch.autocast(projected.device.type, enabled=False):
            plain, ours, theirs = map(_pixels, (student[SEG_FEATURE], projected, teacher[SEG_FEATURE]))
            self._enqueue(theirs, labels, moment)
            known = ((labels >= 0) & (labels < len(self.pixels))).flatten()
            memory = [
                self._against(queue, rows, ours.flatten(0, 1), theirs.flatten(0, 1), known, moment)
                for queue, rows in ((self.pixels, o.pixel_contrast), (self.regions, o.region_contrast))
            ]
            pairs = self._between_images(plain, theirs)
        return Losses(
            {
                "pixel": o.pixel_weight * pixel_divergence(student[SEG_LOGITS], teacher[SEG_LOGITS]),
                "batch": o.batch_weight * pairs,
                "memory_pixel": o.memory_pixel_weight * memory[0],
                "memory_region": o.memory_region_weight * memory[1],
            }
        )

    def _between_images(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mini-batch term for pixels B,P,C of both networks, whose C may differ.

        Images are compared within groups of `together`, as each device of a larger batch compares its own.
        """
        groups = []
        for start in range(0, len(student), self.options.together):
            group = range(start, min(start + self.options.together, len(student)))
            pairs = [(i, j) for i in group for j in group]
            found = [self._divergence(student[i], student[j], teacher[i], teacher[j]).mean() for i, j in pairs]
            groups.append(torch.stack(found).mean())
        return torch.stack(groups).mean()

    def _against(
        self, queue: Tensor, rows: int, student: Tensor, teacher: Tensor, known: Tensor, moment: Moment
    ) -> Tensor:
        """Return the mean divergence of the `known` pixels N,C over rows drawn from every class's queue."""
        order = moment.integers(_DRAW, (queue.shape[1],), queue.device).argsort()
        drawn = queue[:, order[: rows // len(queue) + 1]].flatten(0, 1)
        divergence = self._divergence(student, drawn, teacher, drawn)
        # Not `divergence[known]`, whose length the host would have to wait for.
        return (divergence * known).sum() / known.sum().clamp(min=1)

    def _divergence(self, student: Tensor, student_keys: Tensor, teacher: Tensor, teacher_keys: Tensor) -> Tensor:
        """Return the divergence N of each row N,C by its similarities to keys M,C."""
        log_p = F.log_softmax(student @ student_keys.T / self.options.temperature, dim=1)
        target = F.log_softmax(teacher @ teacher_keys.T / self.options.temperature, dim=1)
        return F.kl_div(log_p, target, reduction="none", log_target=True).sum(dim=1)

    @torch.no_grad()
    def _enqueue(self, features: Tensor, labels: Tensor, moment: Moment) -> None:
        """Add to the queues, from unit vectors B,P,C and labels B,H,W: class means and some pixels, image by image."""
        classes = torch.arange(len(self.pixels), device=labels.device)
        of_class = labels.flatten(1).unsqueeze(1) == classes.unsqueeze(1)  # B,classes,P
        counts = of_class.sum(dim=2)
        means = F.normalize(of_class.to(features.dtype) @ features, dim=2).unsqueeze(2)
        pixels = self._some_pixels(features, of_class, counts, moment)
        given = (means, pixels, counts.clamp(max=1), counts.clamp(max=pixels.shape[2]))
        for mean, some, is_there, count in zip(*map(moment.gather, given), strict=True):
            _push(self.regions, self.region_pointer, mean, is_there)
            _push(self.pixels, self.pixel_pointer, some, count)

    def _some_pixels(self, features: Tensor, of_class: Tensor, counts: Tensor, moment: Moment) -> Tensor:
        """Draw pixels for every image and class, B,classes,n,C; only the first `counts` of them are valid."""
        draws = moment.integers(_DRAW, tuple(of_class.shape), features.device)
        positions = torch.arange(features.shape[1], device=features.device)
        allowed = of_class if self.options.positions == "class" else positions < counts.unsqueeze(2)
        most = min(self.options.enqueued, self.options.pixel_queue, features.shape[1])
        chosen = draws.masked_fill(~allowed, _DRAW).topk(most, dim=2, largest=False).indices
        images = torch.arange(len(features), device=features.device).view(-1, 1, 1)
        return features[images, chosen]


def _push(queue: Tensor, pointer: Tensor, rows: Tensor, counts: Tensor) -> None:
    """Write each class's first `counts` of `rows` classes,n,C into its queue.

    Rows that would reach the end fill the queue's last places, and the next rows start at the front, as in the source.
    """
    length = queue.shape[1]
    places = torch.arange(rows.shape[1], device=queue.device)
    classes = torch.arange(len(queue), device=queue.device).unsqueeze(1)
    wraps = pointer + counts >= length
    start = torch.where(wraps, length - counts, pointer)
    at = (start.unsqueeze(1) + places) % length
    is_meant = (places < counts.unsqueeze(1)).unsqueeze(2)
    queue[classes, at] = torch.where(is_meant, rows.to(queue.dtype), queue[classes, at])
    pointer.copy_(torch.where(wraps, 0, pointer + counts))


def _labels_at(labels: Tensor, size: torch.Size) -> Tensor:
    # Through float, which `interpolate` asks for; labels are small integers.
    # As floats because `interpolate` takes no integers.
    return F.interpolate(labels.unsqueeze(1).float(), size, mode="nearest").squeeze(1).long()


def _pixels(features: Tensor) -> Tensor:
    """Return maps B,C,H,W as unit vectors B,P,C in float32 at least: a low temperature enlarges small errors."""
    precise = at_least_float32(features)
    return F.normalize(precise, dim=1).flatten(2).transpose(1, 2)
