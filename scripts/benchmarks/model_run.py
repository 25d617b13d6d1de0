#!/usr/bin/env python3
"""One forward pass of a foundation model: its time, its memory and what it gave.

Random weights of the true size, right for time and memory. Variants: `plain` is what the public code computes (plain
layers, float32, outputs of all layers kept, heads in chunks of 8 frames); `fast` is our inference in float32;
`bfloat16` the same in mixed precision. `--sweep` measures growing windows on a GPU, and needs no packages but torch,
numpy and safetensors:

    python scripts/benchmarks/model_run.py --device cuda --sweep 10 50 100
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import resource
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
if not any(Path(place).resolve() == ROOT for place in sys.path):
    sys.path.append(str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from spatial_fm_ros.core.models import depth_anything_3, vggt  # noqa: E402
from spatial_fm_ros.core.models.depth_anything_3 import network as da3_network  # noqa: E402
from spatial_fm_ros.core.models.vit.fast import dtype_policy, optimised  # noqa: E402
from spatial_fm_ros.core.models.weights.random import randomise  # noqa: E402

VARIANTS = ("plain", "fast", "bfloat16")
#: Frames a head of the public code takes at a time.
PUBLIC_CHUNK = 8
GB = 1e9

Pass = Callable[[Tensor], dict[str, Tensor]]


def vggt_pass(variant: str, device: torch.device, aggregator_only: bool = False) -> Pass:
    """VGGT-1B with cameras, depth and points; images [1, S, 3, H, W] in [0, 1]."""
    network = filled(lambda: vggt.build(None, heads=("camera", "depth", "point")), variant, device)
    assert isinstance(network, vggt.Vggt)
    trunk_forward, everything = network.aggregator.forward, range(network.config.aa_depth)
    if variant == "plain":
        network.aggregator.forward = lambda tokens, grid, _: trunk_forward(tokens, grid, everything)

    def trunk(images: Tensor) -> dict[str, Tensor]:
        grid = (images.shape[-2] // network.config.patch_size, images.shape[-1] // network.config.patch_size)
        taps = network.aggregator(network.embed(images), grid, network.config.intermediate_layer_idx)
        return {"tokens": taps[max(taps)]}

    def whole(images: Tensor) -> dict[str, Tensor]:
        found = network(images, frames_per_chunk=PUBLIC_CHUNK if variant == "plain" else None)
        return {
            "depth": found.depth[..., 0],
            "pose": found.pose_enc,
            "points": found.world_points,
            "confidence": found.depth_conf,
        }

    return trunk if aggregator_only else whole


def da3_pass(preset: str, variant: str, device: torch.device) -> Pass:
    """Depth Anything 3 of a preset; images as vggt_pass takes them."""
    network = filled(lambda: depth_anything_3.build(preset), variant, device)
    if variant == "plain":
        da3_network.HEAD_CHUNK[device.type] = PUBLIC_CHUNK

    def whole(images: Tensor) -> dict[str, Tensor]:
        found = network((images - 0.45) / 0.23)
        return {"depth": found.depth, "pose": found.pose_enc, "points": found.ray, "confidence": found.depth_conf}

    return whole


def filled(build: Callable[[], nn.Module], variant: str, device: torch.device) -> nn.Module:
    """A network of random weights in the variant's layers and precision."""
    with torch.device("meta"):
        network = build()
    precision = torch.bfloat16 if variant == "bfloat16" else torch.float32
    randomise(network, 0, device, dtype_policy(precision))
    return network.eval().requires_grad_(False) if variant == "plain" else optimised(network)


def make_pass(name: str, variant: str, device: torch.device, aggregator_only: bool = False) -> Pass:
    if name == "vggt":
        return vggt_pass(variant, device, aggregator_only)
    return da3_pass(name.removeprefix("da3-"), variant, device)


def images(views: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Smooth seeded images [1, views, 3, *size] in [0, 1]: each a field of its own and one that all share."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(views, 3, 12, 16, generator=generator) + torch.rand(1, 3, 12, 16, generator=generator)
    fine = nn.functional.interpolate(coarse / 2, size=size, mode="bicubic", align_corners=False)
    return fine.clamp(0, 1)[None].to(device)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made and not yet dropped while it lasts, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, storage.nbytes())

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def accounted_bytes(variant: str, views: int, size: tuple[int, int]) -> int:
    """Peak bytes of activations of one VGGT-1B pass on a GPU, from the sizes of its tensors, without a GPU.

    Fused attention holds its result and nothing of the scores; scratch memory of libraries is not counted.
    """
    device = torch.device("meta")
    run = make_pass("vggt", variant, device)
    given = torch.empty(1, views, 3, *size, device=device)
    with (
        mock.patch.object(F, "scaled_dot_product_attention", lambda query, key, value: torch.empty_like(value)),
        mock.patch.object(torch, "autocast", lambda *_, **__: contextlib.nullcontext()),  # knows no meta device
        torch.inference_mode(),
        LiveBytes() as live,
    ):
        run(given)
    return live.most


def measure(name: str, variant: str, views: int, size: tuple[int, int]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """One pass on the CPU in this process, whose peak memory it is: a process measures one variant."""
    device = torch.device("cpu")
    run, given = make_pass(name, variant, device), images(views, size, device)
    with torch.inference_mode():
        run(images(1, (28, 28), device))  # libraries set themselves up
        wall, processor = time.perf_counter(), time.process_time()
        found = run(given)
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB
    return {"cpu_s": processor, "wall_s": wall, "peak_gb": peak}, found


def sweep(
    variant: str, device: torch.device, windows: Sequence[int], size: tuple[int, int], trunk: bool
) -> list[dict[str, Any]]:
    """Growing windows on a GPU: seconds (median of 3 after one that does not count) and peak memory of each."""
    rows: list[dict[str, Any]] = []
    run = make_pass("vggt", variant, device, aggregator_only=trunk)
    for views in windows:
        row: dict[str, Any] = {"variant": variant, "part": "aggregator" if trunk else "all heads", "frames": views}
        try:
            given = images(views, size, device)
            torch.cuda.reset_peak_memory_stats(device)
            times = [seconds(run, given, device) for _ in range(4)]
            row |= {"s": float(np.median(times[1:])), "gb": torch.cuda.max_memory_allocated(device) / GB}
        except torch.OutOfMemoryError:
            row["problem"] = "out of memory"
        rows.append(row)
        print(json.dumps(row), flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    return rows


def seconds(run: Pass, given: Tensor, device: torch.device) -> float:
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    with torch.inference_mode():
        run(given)
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="vggt", help="vggt, or da3-PRESET such as da3-small")
    parser.add_argument("--variant", choices=VARIANTS, help="without it, a sweep measures all three")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--size", default="518x392", help="WIDTHxHEIGHT, multiples of 14")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--sweep", type=int, nargs="+", metavar="FRAMES", help="windows to measure on the GPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="file to write: .npz with results and figures, .json of a sweep")
    given = parser.parse_args()
    width, height = (int(number) for number in given.size.split("x"))
    torch.set_num_threads(given.threads)
    if given.sweep:
        if not torch.cuda.is_available() or not given.device.startswith("cuda"):
            print("not measured: a sweep needs --device cuda and a GPU that torch can use", file=sys.stderr)
            return 2
        device = torch.device(given.device)
        rows: list[dict[str, Any]] = []
        for variant in [given.variant] if given.variant else VARIANTS:
            for trunk in (True, False):
                rows += sweep(variant, device, given.sweep, (height, width), trunk)
                gc.collect()
                torch.cuda.empty_cache()
        content = {"device": torch.cuda.get_device_name(device), "torch": torch.__version__, "rows": rows}
        print(json.dumps(content, indent=1))
        if given.output:
            given.output.write_text(json.dumps(content))
        return 0
    figures, found = measure(given.network, given.variant or "fast", given.views, (height, width))
    print(json.dumps(figures), flush=True)
    if given.output:
        np.savez(given.output, figures=json.dumps(figures), **{k: v.float().numpy() for k, v in found.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
