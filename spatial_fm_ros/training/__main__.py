"""python -m spatial_fm_ros.training: train the model `nano` on drawn worlds (docs/training.md).

plan    how many steps fit into the time on this machine
run     start a run; it stops in time and keeps its state
resume  go on with a run, or with the packed state of one from another machine
pack    a run's state in a few small files
export  the weights that ship, with their model card
plot    the curves (needs matplotlib)
show    some scenes as a picture (needs OpenCV)
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from spatial_fm_ros.core.errors import InputError, SpatialFMError
from spatial_fm_ros.training import export, log, loop, plan, state
from spatial_fm_ros.training.learner import Learner
from spatial_fm_ros.training.settings import PRESETS, Settings, preset


def main(words: list[str] | None = None) -> int:
    given = _parser().parse_args(words)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    given.device = getattr(given, "device", None) or device
    if getattr(given, "threads", 0):
        torch.set_num_threads(given.threads)
    return int(COMMANDS[given.command](given))


def _plan(given: argparse.Namespace) -> int:
    settings = _settings(given)
    found = plan.measure(settings, given.device)
    views = settings.views_per_step
    print(
        f"{loop.hardware(torch.device(given.device))}: {found.step_s:.3f} s a step of {views} views "
        f"({views / found.step_s:.0f} views/s), {found.rendering_s:.3f} s of it to draw them "
        f"({views / found.rendering_s:.0f} views/s), {found.check_s:.1f} s a check"
    )
    if found.bytes:
        print(f"{found.bytes / 1e9:.1f} GB of GPU memory at most")
    print(f"{given.minutes:g} minutes hold {found.steps(given.minutes, settings)} steps: --steps of `run`")
    return 0


def _run(given: argparse.Namespace) -> int:
    settings = _settings(given)
    if given.plan:
        settings = replace(settings, steps=plan.measure(settings, given.device).steps(given.plan, settings))
        print(f"{settings.steps} steps for {given.plan:g} minutes in all", flush=True)
    learner = loop.start(settings, given.folder, given.device)
    loop.train(learner, given.folder, given.minutes, given.pack)
    return 0


def _resume(given: argparse.Namespace) -> int:
    settings = Settings.load(given.source / loop.SETTINGS)
    changes = {name: getattr(given, name) for name in ("steps", "lr") if getattr(given, name) is not None}
    if given.compile:
        changes["compile"] = True
    folder = given.folder or given.source
    if given.folder is None and state.newest(given.source) == given.source:
        raise InputError(f"{given.source} is a packed state: name the folder of the run that goes on with --folder.")
    learner = loop.resume(given.source, folder, given.device, replace(settings, **changes))
    loop.train(learner, folder, given.minutes, given.pack)
    return 0


def _restored(run: Path) -> Learner:
    learner = Learner(replace(Settings.load(run / loop.SETTINGS), compile=False), "cpu")
    state.restore(learner, state.newest(run))
    return learner


def _pack(given: argparse.Namespace) -> int:
    loop.pack_run(_restored(given.run), given.run, given.folder)
    return 0


def _export(given: argparse.Namespace) -> int:
    for path in export.export(_restored(given.run), given.run, given.folder):
        print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


def _plot(given: argparse.Namespace) -> int:
    log.plot(given.run, given.picture or given.run / "curves.png")
    return 0


def _show(given: argparse.Namespace) -> int:
    from spatial_fm_ros.training.show import show

    show(_settings(given), given.device, given.scenes, given.picture)
    return 0


COMMANDS = {
    "plan": _plan,
    "run": _run,
    "resume": _resume,
    "pack": _pack,
    "export": _export,
    "plot": _plot,
    "show": _show,
}


def _settings(given: argparse.Namespace) -> Settings:
    names = ("seed", "steps", "lr", "views_per_step", "most_views")
    changes = {name: getattr(given, name) for name in names if getattr(given, name, None) is not None}
    if given.compile:
        changes["compile"] = True
    return preset(given.preset, **changes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spatial_fm_ros.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, minutes: bool = False, fresh: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name)
        if minutes or fresh:
            sub.add_argument("--device", help="cpu, cuda, cuda:N; by default the GPU where there is one")
            sub.add_argument("--threads", type=int, default=0, help="processor threads")
            sub.add_argument("--compile", action="store_true", help="compile the transformer blocks (torch.compile)")
        if minutes:
            sub.add_argument("--minutes", type=float, required=True, help="stop in time, saving included")
        if fresh:
            sub.add_argument("--preset", default="nano", choices=sorted(PRESETS))
            for option, kind in (
                ("seed", int),
                ("steps", int),
                ("lr", float),
                ("views-per-step", int),
                ("most-views", int),
            ):
                sub.add_argument(f"--{option}", type=kind, help="instead of the preset's")
        return sub

    command("plan", minutes=True, fresh=True)
    start = command("run", minutes=True, fresh=True)
    start.add_argument("folder", type=Path, help="a new folder for settings, log and states")
    start.add_argument("--plan", type=float, help="measure first, and take the steps that so many minutes hold in all")
    go_on = command("resume", minutes=True)
    go_on.add_argument("source", type=Path, help="the folder of a run, or a packed state")
    go_on.add_argument("--folder", type=Path, help="go on in this new folder")
    go_on.add_argument("--steps", type=int, help="steps of the whole run from now on")
    go_on.add_argument("--lr", type=float, help="peak learning rate from now on")
    for each in (start, go_on):
        each.add_argument("--pack", type=Path, help="also write the packed state into this folder at the end")
    packing, exporting = command("pack"), command("export")
    for each in (packing, exporting):
        each.add_argument("run", type=Path, help="the folder of a run, or a packed state")
        each.add_argument("folder", type=Path, help="the folder to write to")
    plotting = command("plot")
    plotting.add_argument("run", type=Path)
    plotting.add_argument("picture", type=Path, nargs="?", help="by default curves.png in the run")
    showing = command("show", fresh=True)
    showing.add_argument("picture", type=Path)
    showing.add_argument("--scenes", type=int, default=8)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SpatialFMError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; the newest saved state is kept", file=sys.stderr)
        sys.exit(130)
