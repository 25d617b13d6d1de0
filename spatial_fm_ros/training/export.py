"""From a run to the weights that ship: half precision, with the sizes and a model card beside them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.models.vggt.config import VggtConfig
from spatial_fm_ros.training import log
from spatial_fm_ros.training.learner import Learner
from spatial_fm_ros.training.loop import last_stop
from spatial_fm_ros.training.worlds.generator import FARTHEST
from spatial_fm_ros.training.worlds.paths import NARROWEST, WIDEST
from spatial_fm_ros.training.worlds.scenes import SCENES

#: A file of weights may be so large in bytes.
LARGEST = 40_000_000
NAMES = ("nano.safetensors", "config.json", "MODEL_CARD.md")


def export(learner: Learner, run: Path, folder: Path) -> list[Path]:
    """The running average of a run into `folder`; the files. Raises OutputError, InputError for a run without log."""
    card = model_card(learner, run)
    weights = {name: tensor.half().contiguous().cpu() for name, tensor in learner.averaged_state().items()}
    bad = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise OutputError(f"The weights {', '.join(bad[:3])} do not fit half precision; the run has broken down.")
    size = sum(tensor.nbytes for tensor in weights.values())
    if size > LARGEST:
        raise OutputError(f"The weights have {size} bytes, more than the {LARGEST} that may ship; take a smaller net.")
    paths = [folder / name for name in NAMES]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, paths[0], metadata={"format": "pt", "licence": "Apache-2.0"})
        config: VggtConfig = learner.network.config
        paths[1].write_text(json.dumps(asdict(config), indent=1) + "\n")
        paths[2].write_text(card)
    except OSError as error:
        raise OutputError(f"The weights cannot be written to {folder}: {error.strerror}.") from error
    return paths


def model_card(learner: Learner, run: Path) -> str:
    """The card, every number of it from the run's log and settings."""
    lines, settings = log.read(run), learner.settings
    last_stop(lines)
    stops = [line for line in lines if line["event"] == "stop"]
    starts = [line for line in lines if line["event"] == "start"]
    checks = [line for line in lines if line["event"] == "check"]
    machines = sorted({line["hardware"] for line in starts})
    parameters = sum(p.numel() for p in learner.network.parameters())
    sizes = ", ".join(f"{width}x{height} ({share:.0%})" for (height, width), share in settings.sizes)
    scenes = ", ".join(f"{name} {share:.0%}" for name, share in SCENES.items())
    new = "new ones at every step" if not settings.repeat else f"{settings.repeat} batches again and again"
    return f"""# nano

Cameras, depth and points of 1 to 24 images at once: the architecture of VGGT (Wang et al., CVPR 2025) with
{parameters / 1e6:.1f} million parameters, told the intrinsics where they are known. Licence: Apache-2.0, weights too.

| | |
|---|---|
| data | worlds drawn by `spatial_fm_ros.training`, {new}; no photograph, no other network |
| scenes | {scenes}; fields of view {NARROWEST:.0f} to {WIDEST:.0f} degrees |
| images | {sizes}; {settings.fewest_views} to {settings.most_views} views a scene, {settings.views_per_step} a step |
| seed | {settings.seed} |
| steps | {learner.step} of {settings.steps} planned |
| images seen | {sum(line["views"] for line in stops):,} |
| hardware | {"; ".join(machines)} |
| time | {sum(line["seconds"] for line in stops) / 60:.0f} minutes in {len(starts)} part(s) |
| weights | running average, half precision |

## Accuracy
{_accuracy(checks)}
What counts are worlds of another generator and recorded sequences: `make bench-nano`, docs/benchmarks.md.

## Limits
It has seen drawn worlds of simple bodies only. Scale is free; distances beyond {FARTHEST:.0f} m were never asked for.
Reflections, glass and shutter effects were not in its training, and bodies that move were few. Its confidence is not
calibrated.
"""


def _accuracy(checks: list[dict[str, Any]]) -> str:
    if not checks:
        return "Not checked during training.\n"
    last = checks[-1]
    return (
        f"At step {last['step']}, on unseen scenes of the training's own generator, medians: neighbouring views "
        f"{last['check_rotation']:.2f} deg in rotation and {last['check_direction']:.2f} deg in direction, depth "
        f"off by {last['check_absrel']:.1%} after one scale a scene.\n"
    )
