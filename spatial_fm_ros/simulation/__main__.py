"""The simulation without ROS: `python -m spatial_fm_ros.simulation {list,preview,speed,bag,sequence}`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from spatial_fm_ros.commands.console import FAILED, ended_by
from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.interrupts import raising
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.core.io.writing import write_bytes
from spatial_fm_ros.simulation.recording import write_bag, write_sequence
from spatial_fm_ros.simulation.scenario import SCENARIOS, get_scenario
from spatial_fm_ros.simulation.simulator import Simulator


def preview(simulator: Simulator, path: Path, rows: int = 2, columns: int = 3) -> None:
    """A sheet of images along the way with their true depth below each. Raises OutputError."""
    stamps = simulator.frame_stamps_ns
    tiles = []
    for index in np.linspace(0, len(stamps) - 1, rows * columns + 1).astype(int)[:-1]:
        image = simulator.frame(int(index)).image
        depth = simulator.truth.depth(stamps[int(index)])
        near, far = np.nanpercentile(depth, [1, 99])
        shade = np.nan_to_num(255 * (1 - (depth - near) / max(far - near, 1e-6)), nan=0.0).clip(0, 255)
        colored = cv2.applyColorMap(shade.astype(np.uint8), cv2.COLORMAP_TURBO)
        tiles.append(np.vstack([image[:, :, ::-1], colored]))
    sheet = np.vstack([np.hstack(tiles[r * columns : (r + 1) * columns]) for r in range(rows)])
    done, data = cv2.imencode(".png", sheet)
    if not done or os.path.lexists(path):
        raise OutputError(f"The preview '{shown(path)}' is there already; name a new file, nothing is overwritten.")
    write_bytes(path, data.tobytes(), "preview")


def speed(simulator: Simulator, frames: int = 40) -> dict[str, float]:
    """Seconds to build the world, CPU milliseconds of an image and of a sweep."""
    began = time.process_time()
    simulator.truth.renderer().prepare()
    figures = {"build_s": time.process_time() - began}
    indices = np.linspace(0, len(simulator.frame_stamps_ns) - 1, frames).astype(int)
    for name, make in (("image_ms", simulator.frame), ("sweep_ms", simulator.scan)):
        make(0)
        began = time.process_time()
        for index in indices:
            make(int(index))
        figures[name] = 1e3 * (time.process_time() - began) / frames
    return figures


def main(args: list[str] | None = None) -> int:
    """The command; exit status 1 after an error, told in a sentence."""
    parser = argparse.ArgumentParser(prog="python -m spatial_fm_ros.simulation", description=__doc__)
    parser.add_argument("what", choices=("list", "preview", "speed", "bag", "sequence"))
    parser.add_argument("output", nargs="?", type=Path, help="file (preview) or new folder (bag, sequence)")
    parser.add_argument("--scenario", default="room_drive", help="name as given by list")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--duration", type=float, default=0.0, help="seconds; 0 = the scenario's own")
    parser.add_argument("--width", type=int, default=640, help="image width in pixels")
    parser.add_argument(
        "--stereo", type=float, default=0.0, help="a second camera so many metres to the right; 0 = none"
    )
    options = parser.parse_args(args)
    if options.what not in ("list", "speed") and options.output is None:
        parser.error(f"{options.what} needs an output.")
    with raising():
        try:
            if options.output is not None:
                options.output = user_path(options.output)
            _run(options)
        except (Exception, KeyboardInterrupt) as error:
            code = ended_by(error)
            return 1 if code == FAILED else code
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.what == "list":
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:18} {scenario.world:10} {scenario.duration_s:4.0f} s")
        return
    changes = {"duration_s": options.duration} if options.duration > 0 else {}
    start_ns = 0 if options.what == "sequence" else 10_000_000_000
    scenario = get_scenario(options.scenario, seed=options.seed, start_ns=start_ns, **changes)
    if options.stereo:
        scenario = scenario.with_stereo(options.stereo)
    simulator = Simulator(scenario.with_size(options.width))
    if options.what == "preview":
        preview(simulator, options.output)
    elif options.what == "speed":
        figures = speed(simulator)
        print(f"{scenario.name}: " + ", ".join(f"{name} {value:.1f}" for name, value in figures.items()))
    elif options.what == "bag":
        write_bag(simulator, options.output, threads=2, progress=_progress())
    else:
        write_sequence(simulator, options.output, progress=_progress())


def _progress() -> Callable[[float], None]:
    """Prints the share done at most once a second."""
    last = [0.0]

    def show(share: float) -> None:
        if time.monotonic() - last[0] > 1 or share >= 1:
            last[0] = time.monotonic()
            print(f"\r{100 * share:5.1f} %", end="\n" if share >= 1 else "", flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
