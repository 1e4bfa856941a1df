"""A diagram of the network, drawn from the Keras layers themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crackmodel.models.evaluation.figures import new_figure, plain_text

_COLUMNS: Final = 6
_WIDTH: Final = 1.0
_HEIGHT: Final = 0.62
_STEP: Final = (1.32, 1.1)
_PAD: Final = 0.03

# From many places with few channels to few places with many.
_SHADES: Final = ("#f4f7fb", "#e4edf6", "#d0e0f0", "#b9d1ea", "#a0c1e3", "#86b0db", "#f6dcc9")
_INK: Final = "#26323f"
_ORANGE: Final = "#c05a1c"


@dataclass(frozen=True, slots=True)
class Block:
    """Layers that belong together by their names, such as `block_3_expand` to `block_3_project_BN`.

    Attributes:
        name: What they have in common.
        kind: The layers in words.
        shape: Of the output, without the batch.
        parameters: Numbers in it.
        residual: Its input is added to its output.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    residual: bool


def find_blocks(network: Any) -> list[Block]:
    """Group a Keras model's layers, those of nested models included, into blocks.

    Args:
        network: A Keras model; its layers are in the order of the computation.
    """
    groups: list[tuple[str, list[Any]]] = []
    for layer in _layers(network):
        name = _block_name(layer.name)
        if layer.name.endswith("_relu") and name not in {group for group, _ in groups} and groups:
            name = groups[-1][0]  # MobileNetV2 calls the last activation `out_relu`
        if groups and groups[-1][0] == name:
            groups[-1][1].append(layer)
        else:
            groups.append((name, [layer]))
    return [_block(name, layers) for name, layers in groups]


def draw_network(path: Path, network: Any) -> Path:
    """Draw the blocks of a network, in rows that are read from left to right.

    Args:
        path: The PNG to write.
        network: A Keras model.

    Returns:
        The path.
    """
    from matplotlib.patches import FancyBboxPatch

    blocks = find_blocks(network)
    rows = -(-len(blocks) // _COLUMNS)
    figure = new_figure((_STEP[0] * _COLUMNS * 1.28, (_STEP[1] * rows + 0.1) * 1.28))
    (axis,) = figure.subplots(1, 1, squeeze=False)[0]
    axis.set(
        xlim=(-0.22, _STEP[0] * (_COLUMNS - 1) + 1.06),
        ylim=(-_STEP[1] * (rows - 1) - 0.08, 0.84),
        aspect="equal",
    )
    axis.axis("off")
    shades = _shade(blocks)
    for number, (block, shade) in enumerate(zip(blocks, shades, strict=True)):
        row, column = divmod(number, _COLUMNS)
        left, bottom = column * _STEP[0], -row * _STEP[1]
        axis.add_patch(
            FancyBboxPatch(
                (left, bottom), _WIDTH, _HEIGHT, boxstyle=f"round,pad={_PAD},rounding_size=0.06",
                facecolor=shade, edgecolor=_INK, linewidth=0.8,
            )
        )  # fmt: skip
        middle = left + _WIDTH / 2
        lines = (
            (0.52, plain_text(block.name), 9, "bold"),
            (0.36, plain_text(block.kind), 7, "normal"),
            (0.21, " × ".join(f"{size:,}" for size in block.shape), 7.5, "normal"),  # noqa: RUF001
            (0.07, f"{block.parameters:,} parameters" if block.parameters else "", 7, "normal"),
        )
        for height, words, size, weight in lines:
            axis.text(
                middle, bottom + height, words, ha="center", va="center", fontsize=size, weight=weight,
                color=_INK,
            )  # fmt: skip
        if number + 1 < len(blocks):
            _arrow(axis, left, bottom, last=column == _COLUMNS - 1)
        if block.residual:
            _loop(axis, left, bottom)
    total = sum(block.parameters for block in blocks)
    axis.set_title(f"{plain_text(network.name)}: {total:,} parameters", fontsize=11, loc="left", color=_INK)
    figure.savefig(path)
    return path


def _layers(network: Any) -> Iterator[Any]:
    for layer in network.layers:
        if hasattr(layer, "layers"):
            # The nested model's own input is the layer before it.
            yield from (inner for inner in _layers(layer) if type(inner).__name__ != "InputLayer")
        else:
            yield layer


def _block_name(layer: str) -> str:
    stem = layer.removeprefix("bn_").removesuffix("_relu").removesuffix("_bn")
    found = re.match(r"block_\d+|expanded_conv", stem)
    return found[0] if found else stem


def _block(name: str, layers: Sequence[Any]) -> Block:
    kinds = [type(layer).__name__ for layer in layers]
    convolutions = [
        f"{layer.kernel_size[0]}×{layer.kernel_size[0]}{' depthwise' if kind == 'DepthwiseConv2D' else ''}"  # noqa: RUF001
        for layer, kind in zip(layers, kinds, strict=True)
        if kind in ("Conv2D", "DepthwiseConv2D")
    ]
    if len(convolutions) > 1:
        words = "inverted residual" if "Add" in kinds else "inverted bottleneck"
    elif convolutions:
        words = f"convolution {convolutions[0]}"
    else:
        words = {
            "InputLayer": "pixels, 0 to 255", "Rescaling": "to -1 .. 1", "GlobalAveragePooling2D": "average",
            "Dense": "softmax",
        }.get(kinds[0], kinds[0])  # fmt: skip
    shape = tuple(int(size) for size in layers[-1].output.shape[1:])
    parameters = sum(int(layer.count_params()) for layer in layers)
    return Block(name.replace("_", " "), words, shape, parameters, "Add" in kinds)


def _shade(blocks: Sequence[Block]) -> list[str]:
    edges = sorted({block.shape[0] for block in blocks if len(block.shape) == 3}, reverse=True)
    return [
        _SHADES[min(edges.index(block.shape[0]), len(_SHADES) - 2)] if len(block.shape) == 3 else _SHADES[-1]
        for block in blocks
    ]


def _arrow(axis: Any, left: float, bottom: float, *, last: bool) -> None:
    """Draw the way to the next block; from the last one of a row through the gap below it."""
    middle = bottom + _HEIGHT / 2
    if not last:
        _path(axis, [(left + _WIDTH + _PAD, middle), (left + _STEP[0] - _PAD, middle)], _INK)
        return
    right, gap, below = left + _WIDTH / 2, bottom - 0.14, middle - _STEP[1]
    _path(axis, [(right, bottom - _PAD), (right, gap), (-0.17, gap), (-0.17, below), (-_PAD, below)], _INK)


def _loop(axis: Any, left: float, bottom: float) -> None:
    """Draw the way over a block whose input is added to its output."""
    start, end, foot = left + 0.12, left + _WIDTH - 0.12, bottom + _HEIGHT + _PAD
    _path(axis, [(start, foot), (start, foot + 0.11), (end, foot + 0.11), (end, foot)], _ORANGE)


def _path(axis: Any, corners: Sequence[tuple[float, float]], colour: str) -> None:
    axis.plot(*zip(*corners[:-1], strict=True), color=colour, linewidth=0.9)
    axis.annotate(
        "", xy=corners[-1], xytext=corners[-2],
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
