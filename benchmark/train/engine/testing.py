"""Evaluation of a classifier on a data set."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from benchmark.data.batches import ClassificationData
from benchmark.machine.ranks import ALONE, Ranks
from benchmark.models.taps import Network
from benchmark.train import precision
from methods.base import LOGITS


@torch.no_grad()
def evaluate(network: Network, data: ClassificationData, precision_name: str, ranks: Ranks = ALONE) -> dict[str, float]:
    """Return top-1 and top-5 accuracy in per cent and mean cross-entropy over the test images of all ranks.

    `precision_name` is the one that the caller records. No half precision is used: bf16 and fp16 evaluate as fp32.
    """
    training = network.training
    network.eval()
    sums = torch.zeros(4, dtype=torch.float64)
    with precision.arithmetic(precision_name):
        for batch in data.evaluation_batches():
            logits = network(batch.inputs)[LOGITS]
            guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
            hits = (guesses == batch.targets[:, None]) & batch.valid[:, None]
            losses = F.cross_entropy(logits, batch.targets, reduction="none") * batch.valid
            found = [hits[:, 0].sum().double(), hits.sum().double(), losses.sum().double(), batch.valid.sum().double()]
            sums = sums.to(logits.device) + torch.stack(found)
    network.train(training)
    top1, top5, loss, images = ranks.sum(sums).tolist()
    return {"top1": 100 * top1 / images, "top5": 100 * top5 / images, "loss": loss / images}
