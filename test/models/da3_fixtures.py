"""The recorded numbers of Depth Anything 3, from the copies beside the tests and, where the environment variable
SPATIAL_FM_FIXTURES names their folder, from the complete originals."""

from __future__ import annotations

import gzip
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spatial_fm_ros.core.models import depth_anything_3

COPIES = Path(__file__).parent / "data" / "da3"
ORIGINALS = os.environ.get("SPATIAL_FM_FIXTURES", "")
FOLDERS = [pytest.param(COPIES, id="copies")]
if ORIGINALS:
    FOLDERS.append(pytest.param(Path(ORIGINALS), id="originals"))
#: Agreed error, as a share of the largest value, where the recording states no rounding noise of its own.
TOLERANCE = 2e-5


def recorded(*names: str) -> list:
    """Parameters (folder, name) of the recordings that are there, in the copies and in the originals."""
    return [
        pytest.param(folder.values[0], name, id=f"{name}-{folder.id}")
        for name in names
        for folder in FOLDERS
        if (folder.values[0] / f"da3_tiny_{name}.npz").is_file()
    ]


# Networks this small gain nothing from more threads.
torch.set_num_threads(2)


@cache
def weights(name: str) -> dict[str, torch.Tensor]:
    """The published state dict of a tiny network: a, b or m."""
    return load_file(COPIES / f"da3_tiny_{name}_weights.safetensors")


def settings(name: str) -> dict:
    return json.loads((COPIES / f"da3_tiny_{name}_config.json").read_text())


@cache
def tiny(name: str):
    """a, b: any-view; m: metric; nested: b brought to metres by m. Built without weights, then given them."""
    with torch.device("meta"):
        network = depth_anything_3.build(nested_settings() if name == "nested" else settings(name))
    network.load_published(nested_weights() if name == "nested" else weights(name), assign=True)
    return network.eval().requires_grad_(False)


def nested_settings() -> dict:
    return {"kind": "nested", "anyview": settings("b"), "metric": settings("m")}


def nested_weights() -> dict[str, torch.Tensor]:
    return {
        key.replace("model.", f"model.{branch}.", 1): tensor
        for name, branch in (("b", "da3"), ("m", "da3_metric"))
        for key, tensor in weights(name).items()
    }


def published_keys() -> dict[str, dict[str, tuple[int, ...]]]:
    """variant -> {key: shape} of the published files."""
    listed = json.loads(gzip.decompress((COPIES / "da3_keys.json.gz").read_bytes()))
    return {variant: {key: tuple(shape) for key, shape in keys.items()} for variant, keys in listed.items()}


class Recording:
    """One file of numbers: tensors by name, and how close to them results have to be."""

    def __init__(self, folder: Path, name: str) -> None:
        with np.load(folder / f"da3_tiny_{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        self.meta = json.loads(str(arrays.pop("meta")))
        self.thinned = int(arrays.pop("thinned", 1))
        self.arrays = arrays

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def agrees(self, name: str, got, tolerance: float | None = None) -> None:
        """Within ten times the rounding noise of the published network, or `tolerance` of the largest value."""
        wanted = self.arrays[name]
        got = got.detach().cpu().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
        if got.shape != wanted.shape:
            at = [axis for axis, (a, b) in enumerate(zip(got.shape, wanted.shape)) if a != b]
            assert len(at) == 2 and self.thinned > 1, (name, got.shape, wanted.shape)
            got = got[tuple(slice(None, None, self.thinned if axis in at else 1) for axis in range(got.ndim))]
            assert got.shape == wanted.shape, name
        if wanted.dtype.kind in "ib":
            assert np.array_equal(got, wanted), name
            return
        noise = self.meta.get("noise_floor", {}).get(name)
        largest = np.abs(wanted).max()
        limit = min(10 * noise[0], TOLERANCE * largest) if noise else (tolerance or TOLERANCE) * largest
        error = np.abs(got - wanted).max()
        assert error <= max(limit, 1e-7), f"{name}: {error:.3g} where {limit:.3g} is allowed"
