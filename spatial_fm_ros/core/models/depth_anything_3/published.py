"""Weights laid out as the hub stores them: the prefix, one shared LayerNorm, stacks that nobody reads.

A published file holds four output stacks for rays, of which inference reads the last; their LayerNorm is one
instance, stored under the first. A file may hold a Gaussian head. Modules here keep only what is read;
this module knows the names and shapes of the rest, so that loading stays strict.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.depth_anything_3.presets import NetworkConfig
from spatial_fm_ros.core.models.weights.identify import identify

Shapes = Mapping[str, tuple[int, ...]]

_RAY_STACK = re.compile(r"(head\.scratch\.output_conv[12]_aux)\.3\.(.+)")
_SHARED_NORM = re.compile(r"head\.scratch\.output_conv2_aux\.3\.2\.(weight|bias)")
_GAUSSIAN_OUT = 38
_SHOWN = 4


@dataclass(frozen=True)
class Layout:
    """Names and shapes of a published file: needed, allowed beside them, and own name -> published name."""

    needed: dict[str, tuple[int, ...]]
    allowed: dict[str, tuple[int, ...]]
    published: dict[str, str]


class Published(nn.Module):
    """A network that can take weights as they were published."""

    def branches(self) -> dict[str, tuple[str, nn.Module, NetworkConfig]]:
        """Published prefix -> (own prefix, network, its configuration)."""
        raise NotImplementedError

    def published_layout(self) -> Layout:
        """Every tensor of the published file of this network."""
        layout = Layout({}, {}, {})
        for prefix, (own_prefix, network, config) in self.branches().items():
            part = _branch_layout(network, config)
            layout.needed.update({prefix + name: shape for name, shape in part.needed.items()})
            layout.allowed.update({prefix + name: shape for name, shape in part.allowed.items()})
            layout.published.update({own_prefix + own: prefix + name for own, name in part.published.items()})
        return layout

    def published_names(self, shapes: Shapes) -> dict[str, str]:
        """Own name -> name in a file that holds tensors of these shapes, for loading tensor by tensor.

        Raises ModelError that names what is missing, foreign or of another shape, and what the file looks like.
        """
        layout = self.published_layout()
        known = layout.needed | layout.allowed
        missing = [name for name in layout.needed if name not in shapes]
        foreign = [name for name in shapes if name not in known]
        misshaped = [
            f"{name} is {list(shapes[name])}, expected {list(shape)}"
            for name, shape in known.items()
            if name in shapes and shapes[name] != shape
        ]
        faults = [
            f"{len(items)} {what} ({', '.join(items[:_SHOWN])}{', ...' if len(items) > _SHOWN else ''})"
            for what, items in (("missing", missing), ("foreign", foreign), ("of another shape", misshaped))
            if items
        ]
        if faults:
            wanted = identify(layout.needed).note
            raise ModelError(
                f"These weights do not fit this Depth Anything 3 network: of {len(layout.needed)} tensors "
                f"{'; '.join(faults)}. They look like {identify(shapes).note}, the network like {wanted}; "
                "build the variant of the file, or give the file of the variant."
            )
        return layout.published

    def load_published(self, state_dict: Mapping[str, Tensor], assign: bool = False) -> None:
        """Take the tensors of a published state dict; with `assign` they become the parameters themselves.

        `assign` is for networks built on the meta device and for mapped files. Raises ModelError as
        `published_names` does; then nothing was changed.
        """
        names = self.published_names({name: tuple(tensor.shape) for name, tensor in state_dict.items()})
        self.load_state_dict({own: state_dict[name] for own, name in names.items()}, strict=True, assign=assign)


def _branch_layout(network: nn.Module, config: NetworkConfig) -> Layout:
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    published = {name: _SHARED_NORM.sub(r"head.scratch.output_conv2_aux.0.2.\1", name) for name in own}
    needed = {published[name]: shape for name, shape in own.items()}
    allowed: dict[str, tuple[int, ...]] = {}
    for name, shape in own.items():
        if match := _RAY_STACK.fullmatch(name):
            unread = {f"{match[1]}.{k}.{match[2]}": shape for k in range(3)}
            if _SHARED_NORM.fullmatch(name):  # a plain state dict names the shared norm four times
                allowed.update(unread | {name: shape})
            else:
                needed.update(unread)
    if config.gs:
        allowed.update(_gaussian_head(own, config))
    return Layout(needed, {name: shape for name, shape in allowed.items() if name not in needed}, published)


def _gaussian_head(own: Mapping[str, tuple[int, ...]], config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """The Gaussian head: the depth chain with other outputs and convolutions that merge the image in."""
    shapes = {
        f"gs_{name}": shape
        for name, shape in own.items()
        if name.startswith("head.") and "_aux" not in name and not name.startswith("head.norm.")
    }
    hidden = shapes["gs_head.scratch.output_conv2.2.weight"][1]
    shapes["gs_head.scratch.output_conv2.2.weight"] = (_GAUSSIAN_OUT, hidden, 1, 1)
    shapes["gs_head.scratch.output_conv2.2.bias"] = (_GAUSSIAN_OUT,)
    widths = [3, config.features // 8, config.features // 4, config.features // 2]
    for layer, (before, after) in enumerate(zip(widths, widths[1:])):
        shapes[f"gs_head.images_merger.{2 * layer}.weight"] = (after, before, 3, 3)
        shapes[f"gs_head.images_merger.{2 * layer}.bias"] = (after,)
    return shapes
