"""Loading of weights into networks of the dense tasks: a whole network, a backbone, or a teacher's heads."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from benchmark.errors import MissingInput
from benchmark.models.checkpoints import WeightFile


def load_whole(network: nn.Module, file: WeightFile) -> None:
    """Load a checkpoint into a network that must take all its weights from it.

    Raises:
        MissingInput: a tensor is missing or has another shape.
    """
    _load(network, file.tensors(), file)


def load_backbone(network: nn.Module, file: WeightFile) -> None:
    """Load a classifier's weights into `network.backbone`. Its other weights are ignored.

    Raises:
        MissingInput: the backbone needs a tensor that is not there.
    """
    backbone = network.get_submodule("backbone")
    _load(backbone, {name.removeprefix("backbone."): value for name, value in file.tensors().items()}, file)


def inherit(student: nn.Module, teacher: nn.Module) -> list[str]:
    """Copy the teacher's neck and head weights to the student where shapes agree: FGD's inheriting strategy.

    Return the names of the copied tensors.
    """
    wanted = student.state_dict()
    taken = {
        name: tensor
        for name, tensor in teacher.state_dict().items()
        if not name.startswith("backbone.") and name in wanted and wanted[name].shape == tensor.shape
    }
    student.load_state_dict(taken, strict=False)
    return list(taken)


def _load(network: nn.Module, state: Mapping[str, Tensor], file: WeightFile) -> None:
    try:
        absent = network.load_state_dict(dict(state), strict=False).missing_keys
    except RuntimeError as error:
        raise MissingInput(
            f"{file.path} does not fit {type(network).__name__}: {str(error).splitlines()[1].strip()}",
            "name the model that the file was saved from",
        ) from error
    # Files of before batch norms counted their batches lack the counters, which nothing reads.
    absent = [name for name in absent if not name.endswith("num_batches_tracked")]
    if absent:
        more = f" and {len(absent) - 4} more" if len(absent) > 4 else ""
        raise MissingInput(
            f"{file.path} is no checkpoint of this {type(network).__name__}: it lacks {', '.join(absent[:4])}{more}",
            "name the model that the file was saved from",
        )
