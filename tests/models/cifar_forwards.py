"""The CIFAR networks once more: plain functions of a state dict, without modules or hooks.

Each returns every role of its family, written from the published definitions (RepDistiller, mdistiller).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
Roles = dict[str, Tensor]


class Layers:
    """Convolution, batch norm and linear layer by the names of a state dict."""

    def __init__(self, state: State, training: bool) -> None:
        self.state = {name: tensor.clone() for name, tensor in state.items()}
        self.training = training

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        weight = self.state[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, self.training)

    def head(self, roles: Roles, x: Tensor, name: str) -> Roles:
        pooled = x.mean((2, 3))
        logits = F.linear(pooled, self.state[f"{name}.weight"], self.state[f"{name}.bias"])
        return {**roles, "pre_pool": x, "embedding": pooled, "logits": logits}

    def has(self, prefix: str) -> bool:
        return any(name.startswith(f"{prefix}.") for name in self.state)

    def count(self, prefix: str) -> int:
        number = 0
        while self.has(f"{prefix}.{number}"):
            number += 1
        return number


def shuffled(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    return x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


def resnet(net: Layers, x: Tensor) -> Roles:
    """Basic blocks, or bottlenecks where a third convolution is there."""
    deep = net.has("layer1.0.conv3")
    shortcut_name, head = ("shortcut", "linear") if deep else ("downsample", "fc")
    x = F.relu(net.norm(net.conv(x, "conv1", padding=1), "bn1"))
    roles = {"stem": x}
    for stage in range(1, 5 if deep else 4):
        for block in range(net.count(f"layer{stage}")):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            if deep:
                out = F.relu(net.norm(net.conv(x, f"{at}.conv1"), f"{at}.bn1"))
                out = F.relu(net.norm(net.conv(out, f"{at}.conv2", stride, 1), f"{at}.bn2"))
                out = net.norm(net.conv(out, f"{at}.conv3"), f"{at}.bn3")
            else:
                out = F.relu(net.norm(net.conv(x, f"{at}.conv1", stride, 1), f"{at}.bn1"))
                out = net.norm(net.conv(out, f"{at}.conv2", padding=1), f"{at}.bn2")
            if net.has(f"{at}.{shortcut_name}"):
                x = net.norm(net.conv(x, f"{at}.{shortcut_name}.0", stride), f"{at}.{shortcut_name}.1")
            preact = out + x
            x = F.relu(preact)
        roles |= {f"stage{stage}": x, f"stage{stage}.preact": preact}
    return net.head(roles, x, head)


def wrn(net: Layers, x: Tensor) -> Roles:
    x = net.conv(x, "conv1", padding=1)
    roles = {"stem": x}
    for stage in (1, 2, 3):
        for block in range(net.count(f"block{stage}.layer")):
            at = f"block{stage}.layer.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            rectified = F.relu(net.norm(x, f"{at}.bn1"))
            if net.has(f"{at}.convShortcut"):
                x = net.conv(rectified, f"{at}.convShortcut", stride)
            out = F.relu(net.norm(net.conv(rectified, f"{at}.conv1", stride, 1), f"{at}.bn2"))
            x = x + net.conv(out, f"{at}.conv2", padding=1)
        # As mdistiller: the stage's output through the batch norm that comes next.
        following = f"block{stage + 1}.layer.0.bn1" if stage < 3 else "bn1"
        roles |= {f"stage{stage}": x, f"stage{stage}.preact": net.norm(x, following)}
    return net.head(roles, F.relu(net.norm(x, "bn1")), "fc")


def vgg(net: Layers, x: Tensor) -> Roles:
    roles = {}
    for block in range(5):
        for number in range(2 if net.has(f"block{block}.3") else 1):
            preact = net.norm(net.conv(x, f"block{block}.{3 * number}", padding=1), f"block{block}.{3 * number + 1}")
            x = F.relu(preact)
        if block == 0:
            roles["stem"] = x
        else:
            roles |= {f"stage{block}": x, f"stage{block}.preact": preact}
        if block < 3:
            x = F.max_pool2d(x, 2)
    return net.head(roles, x, "classifier")


def mobilenetv2(net: Layers, x: Tensor) -> Roles:
    x = F.relu(net.norm(net.conv(x, "conv1.0", 2, 1), "conv1.1"))
    roles = {"stem": x}
    for stage, first_stride in enumerate((1, 1, 2, 2, 1, 2, 1)):
        for block in range(net.count(f"blocks.{stage}")):
            at = f"blocks.{stage}.{block}.conv"
            out = F.relu(net.norm(net.conv(x, f"{at}.0"), f"{at}.1"))
            stride = first_stride if block == 0 else 1
            out = F.relu(net.norm(net.conv(out, f"{at}.3", stride, 1), f"{at}.4"))
            out = net.norm(net.conv(out, f"{at}.6"), f"{at}.7")
            x = x + out if x.shape == out.shape else out
        if stage in (1, 2, 4, 6):
            number = (1, 2, 4, 6).index(stage) + 1
            roles |= {f"stage{number}": x, f"stage{number}.preact": x}
    return net.head(roles, F.relu(net.norm(net.conv(x, "conv2.0"), "conv2.1")), "classifier.0")


def shufflenetv1(net: Layers, x: Tensor) -> Roles:
    x = F.relu(net.norm(net.conv(x, "conv1"), "bn1"))
    roles = {"stem": x}
    for stage in (1, 2, 3):
        for block in range(net.count(f"layer{stage}")):
            at = f"layer{stage}.{block}"
            stride = 2 if block == 0 else 1
            out = F.relu(net.norm(net.conv(x, f"{at}.conv1"), f"{at}.bn1"))
            out = shuffled(out, 1 if x.shape[1] == 24 else 3)
            out = F.relu(net.norm(net.conv(out, f"{at}.conv2", stride, 1), f"{at}.bn2"))
            out = net.norm(net.conv(out, f"{at}.conv3"), f"{at}.bn3")
            preact = torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1) if block == 0 else out + x
            x = F.relu(preact)
        roles |= {f"stage{stage}": x, f"stage{stage}.preact": preact}
    return net.head(roles, x, "linear")


def shufflenetv2(net: Layers, x: Tensor) -> Roles:
    x = F.relu(net.norm(net.conv(x, "conv1"), "bn1"))
    roles = {"stem": x}
    for stage in (1, 2, 3):
        at = f"layer{stage}.0"
        left = net.norm(net.conv(x, f"{at}.conv1", 2, 1), f"{at}.bn1")
        left = F.relu(net.norm(net.conv(left, f"{at}.conv2"), f"{at}.bn2"))
        right = F.relu(net.norm(net.conv(x, f"{at}.conv3"), f"{at}.bn3"))
        right = net.norm(net.conv(right, f"{at}.conv4", 2, 1), f"{at}.bn4")
        right = F.relu(net.norm(net.conv(right, f"{at}.conv5"), f"{at}.bn5"))
        x = shuffled(torch.cat([left, right], 1), 2)
        for block in range(1, net.count(f"layer{stage}")):
            at = f"layer{stage}.{block}"
            half = x.shape[1] // 2
            kept, out = x[:, :half], x[:, half:]
            out = F.relu(net.norm(net.conv(out, f"{at}.conv1"), f"{at}.bn1"))
            out = net.norm(net.conv(out, f"{at}.conv2", padding=1), f"{at}.bn2")
            out = net.norm(net.conv(out, f"{at}.conv3"), f"{at}.bn3")
            preact = torch.cat([kept, out], 1)
            x = shuffled(torch.cat([kept, F.relu(out)], 1), 2)  # as published: the kept half passes as it is
        roles |= {f"stage{stage}": x, f"stage{stage}.preact": preact}
    return net.head(roles, F.relu(net.norm(net.conv(x, "conv2"), "bn2")), "linear")


FORWARDS: dict[str, Callable[[Layers, Tensor], Roles]] = {
    "resnet8": resnet,
    "resnet14": resnet,
    "resnet20": resnet,
    "resnet32": resnet,
    "resnet44": resnet,
    "resnet56": resnet,
    "resnet110": resnet,
    "resnet8x4": resnet,
    "resnet32x4": resnet,
    "wrn_16_1": wrn,
    "wrn_16_2": wrn,
    "wrn_40_1": wrn,
    "wrn_40_2": wrn,
    "vgg8": vgg,
    "vgg13": vgg,
    "MobileNetV2": mobilenetv2,
    "ResNet50": resnet,
    "ShuffleV1": shufflenetv1,
    "ShuffleV2": shufflenetv2,
}
