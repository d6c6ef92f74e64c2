"""CIRKD's segmentation networks as models of mmseg: the same modules and names, with losses and inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.models import BaseSegmentor, EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.models.registry import model
from methods.maps import pixel_cross_entropy

AUX_WEIGHT = 0.4  # CIRKD, train_kd.py: of the auxiliary head, which its ResNets have
# CIRKD, dataset/cityscapes.py: blue, green and red from 0 to 255 less these means, not divided; padded with zeros.
PREPROCESSOR = {
    "type": "SegDataPreProcessor",
    "mean": (104.00698793, 116.66876762, 122.67891434),
    "std": (1.0, 1.0, 1.0),
    "size_divisor": 8,
    "pad_val": 0,
    "seg_pad_val": 255,
}
WHOLE = {"mode": "whole"}  # CIRKD, test.py and its validation


@MODELS.register_module()
class CirkdSegmentor(EncoderDecoder):  # type: ignore[misc]
    """A network of `benchmark.models.cirkd_*`, given by name or as a module, trained and tested as CIRKD does.

    Its modules become this model's own, so that checkpoints of either are those of the other. From mmseg come whole and
    sliding inference, post-processing and prediction; CIRKD's cross-entropy is over scores upsampled with aligned
    corners, mean over labelled pixels.
    """

    align_corners = True

    def __init__(
        self,
        network: str | nn.Module,
        num_classes: int,
        test_cfg: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        """Build the model.

        `test_cfg` is mmseg's: `{mode: whole}` (default) or `{mode: slide, crop_size: ..., stride: ...}`.
        """
        BaseSegmentor.__init__(self, data_preprocessor=data_preprocessor or PREPROCESSOR)
        plain = model(network).build(num_classes) if isinstance(network, str) else network
        for name, module in plain.named_children():
            self.add_module(name, module)
        self.num_classes = self.out_channels = num_classes
        self.test_cfg = ConfigDict(test_cfg or WHOLE)

    @property
    def backbone(self) -> nn.Module:
        """Return the module that classification weights are loaded into."""
        backbone: nn.Module = self.pretrained
        inner = getattr(backbone, "net", None)  # CIRKD wraps its MobileNetV2, and saves what is inside
        return inner if isinstance(inner, nn.Module) else backbone

    def extract_feat(self, inputs: Tensor) -> list[Tensor]:
        """Return the maps that the heads read, from images B,3,H,W: first the auxiliary head's, if there is one."""
        found = self.pretrained(inputs)
        return list(found) if isinstance(found, tuple) else [found]

    def encode_decode(self, inputs: Tensor, batch_img_metas: Sequence[Any]) -> Tensor:
        """Return class scores B,classes,H,W at the images' size."""
        scores = self.head(self.extract_feat(inputs)[-1])
        return F.interpolate(scores, inputs.shape[2:], mode="bilinear", align_corners=self.align_corners)

    def loss(self, inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Return the cross-entropy of both heads, the auxiliary one's already weighted."""
        labels = labels_of(data_samples)
        scores = self._forward(inputs)
        losses = {"loss_ce": pixel_cross_entropy(scores[0], labels)}
        if len(scores) > 1:
            losses["loss_aux"] = AUX_WEIGHT * pixel_cross_entropy(scores[1], labels)
        return losses

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> list[Tensor]:
        """Return class scores at an eighth of the images' size: the main head's, then any auxiliary head's."""
        features = self.extract_feat(inputs)
        scores = [self.head(features[-1])]
        if getattr(self, "auxlayer", None) is not None:
            scores.append(self.auxlayer(features[0]))
        return scores


def labels_of(data_samples: Sequence[Any]) -> Tensor:
    """Return the labels of a batch, integers B,H,W."""
    return torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
