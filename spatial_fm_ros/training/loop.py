"""A run: steps until it is done or the time is over, with its log and its states."""

from __future__ import annotations

import math
import platform
import shutil
import time
from pathlib import Path

import torch

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.training import state
from spatial_fm_ros.training.learner import Learner, shape_of_step
from spatial_fm_ros.training.log import NAME, Log
from spatial_fm_ros.training.settings import Settings

SETTINGS = "settings.json"
#: Seconds between two exact states on disk, and those kept free at the end for saving.
SAVE_EVERY_S, TO_SAVE_S = 150.0, 15.0


def hardware(device: torch.device) -> str:
    """The device by its name, for logs and the model card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} processor, {torch.get_num_threads()} threads"


def start(settings: Settings, run: Path, device: str) -> Learner:
    """A fresh learner and its folder. Raises OutputError where the folder has a run already."""
    if (run / SETTINGS).exists():
        raise OutputError(f"{run} holds a run already; resume it, or name another folder.")
    try:
        run.mkdir(parents=True, exist_ok=True)
        (run / SETTINGS).write_text(settings.to_json())
    except OSError as error:
        raise OutputError(f"The run cannot be kept in {run}: {error.strerror}.") from error
    return Learner(settings, device)


def resume(source: Path, run: Path, device: str, changed: Settings | None = None) -> Learner:
    """A learner as `source`, a run or a packed state, left it, to go on in the folder `run`.

    changed: other settings from here on, such as more steps. Raises InputError where there is nothing to go on from.
    """
    settings = changed or Settings.load(source / SETTINGS)
    learner = Learner(settings, device)
    state.restore(learner, state.newest(source))
    if run != source:
        if (run / SETTINGS).exists():
            raise OutputError(f"{run} holds a run already; resume that one, or name another folder.")
        run.mkdir(parents=True, exist_ok=True)
        if (source / NAME).is_file():
            shutil.copyfile(source / NAME, run / NAME)
    (run / SETTINGS).write_text(settings.to_json())
    return learner


def train(learner: Learner, run: Path, minutes: float, packed: Path | None = None) -> bool:
    """Learn for at most so many minutes, saving included; whether all steps are done. The state is saved at the end.

    packed: a folder that gets the packed state, the settings and the log, all files small.
    """
    settings, log = learner.settings, Log(run)
    began = saved = time.monotonic()
    deadline = began + 60 * minutes - (TO_SAVE_S if 60 * minutes > 4 * TO_SAVE_S else 0)
    log.write("start", step=learner.step, hardware=hardware(learner.device), torch=torch.__version__)
    told, told_views, views_seen = began, 0, 0
    longest = 0.0
    while learner.step < settings.steps:
        step_began = time.monotonic()
        if step_began + longest > deadline:
            break
        shape = shape_of_step(settings, learner.step)
        losses, norm = learner.learn()
        views_seen += shape.scenes * shape.views
        told_views += shape.scenes * shape.views
        if learner.step % settings.log_every == 0 or learner.step == settings.steps:
            numbers = {name: round(value, 5) for name, value in losses.numbers().items()}
            now = time.monotonic()
            speed = told_views / (now - told)
            rate = learner.optimizer.param_groups[0]["lr"]
            log.write(
                "step",
                step=learner.step,
                **numbers,
                norm=round(norm, 4) if math.isfinite(norm) else None,
                lr=rate,
                views_per_s=round(speed, 1),
            )
            print(f"step {learner.step}: {numbers}, {speed:.1f} views/s", flush=True)
            told, told_views = now, 0
        if learner.step % settings.check_every == 0:
            found = {name: round(value, 4) for name, value in learner.check().items()}
            log.write("check", step=learner.step, **found)
            print(f"step {learner.step}: {found}", flush=True)
            told, told_views = time.monotonic(), 0
        if time.monotonic() - saved > SAVE_EVERY_S:
            state.save(learner, run)
            saved = time.monotonic()
        longest = max(0.8 * longest, time.monotonic() - step_began)
    done = learner.step >= settings.steps
    seconds = time.monotonic() - began
    log.write("stop", step=learner.step, seconds=round(seconds, 1), views=views_seen, done=done)
    state.save(learner, run)
    if packed is not None:
        pack_run(learner, run, packed)
    print(f"stopped at step {learner.step} of {settings.steps} after {seconds:.0f} s", flush=True)
    return done


def pack_run(learner: Learner, run: Path, folder: Path) -> None:
    """The packed state with all that `resume` needs."""
    files = state.pack(learner, folder)
    for name in (SETTINGS, NAME):
        try:
            shutil.copyfile(run / name, folder / name)
        except OSError as error:
            raise OutputError(f"{folder / name} cannot be written: {error.strerror}.") from error
    total = sum(path.stat().st_size for path in files) / 1e6
    print(f"packed into {folder}: {len(files) + 2} files, {total:.1f} MB", flush=True)


def last_stop(lines: list[dict[str, object]]) -> dict[str, object]:
    """The last line of a log that says where a run stopped. Raises InputError where none does."""
    stops = [line for line in lines if line["event"] == "stop"]
    if not stops:
        raise InputError("The log does not say where the run stopped; resume it once and let it end.")
    return stops[-1]
