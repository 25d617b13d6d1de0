"""Runs as a user starts them: learning, stopping in time, going on here and elsewhere, what ships in the end."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ConfigError, InputError, ModelError, OutputError
from spatial_fm_ros.core.models.nano import SETTINGS
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.types import Camera, Keyframe, Window, WindowState
from spatial_fm_ros.training import export, learner, log, loop, plan, shards, state
from spatial_fm_ros.training.__main__ import main
from spatial_fm_ros.training.learner import MOST_SKIPPED, Learner, learning_rate, shape_of_step
from spatial_fm_ros.training.losses import losses
from spatial_fm_ros.training.measures import measures, summary
from spatial_fm_ros.training.settings import PRESETS, Settings, preset
from spatial_fm_ros.training.targets import targets

ROOT = Path(__file__).resolve().parents[2]
#: A network and scenes so small that steps take milliseconds.
QUICK = preset("smoke", repeat=0, steps=40, sizes=(((28, 42), 1.0),), log_every=2, check_every=5, check_scenes=2,
               views_per_step=4, most_views=4, fewest_views=2, views_grow=0.5)  # fmt: skip
WITHOUT_OTHERS = """
import json, sys
for name in ("cv2", "scipy", "open3d", "pycolmap", "kornia", "poselib", "yaml", "typer", "rich", "matplotlib",
             "huggingface_hub", "tqdm", "PIL", "psutil", "rosbags", "gtsam", "kiss_icp"):
    sys.modules[name] = None
from spatial_fm_ros.training.__main__ import main
sys.exit(max(main(words) for words in json.loads(sys.argv[1])))
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small tensors are fastest so, and no sum depends on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was stopped at step 6, its learner as it was then."""
    run = tmp_path_factory.mktemp("run") / "run"
    quick = loop.start(replace(QUICK, steps=6), run, "cpu")
    assert loop.train(quick, run, minutes=5.0, packed=run.parent / "packed")
    return run, quick


def moments(one: Learner, name: str) -> list[torch.Tensor]:
    """Of the parameters that learn: DINO's mask token, for one, never gets a gradient."""
    found = [one.optimizer.state[p].get(name) for p in one.network.parameters()]
    return [moment for moment in found if moment is not None]


def same(a: Learner, b: Learner) -> bool:
    pairs = [
        (a.network.parameters(), b.network.parameters()),
        (a.average, b.average),
        (moments(a, "exp_avg"), moments(b, "exp_avg")),
        (moments(a, "exp_avg_sq"), moments(b, "exp_avg_sq")),
    ]
    return a.step == b.step and all(torch.equal(x, y) for pair in pairs for x, y in zip(*pair, strict=True))


def test_one_scene_is_learnt_by_heart():
    """The whole chain learns: a network that sees one scene again and again knows its cameras and depth."""
    smoke = Learner(preset("smoke"), "cpu")
    first = losses(smoke.look(smoke.batch(0), None), targets(smoke.batch(0)), 5.0).numbers()
    for _ in range(smoke.settings.steps):
        smoke.learn()
    batch = smoke.batch(0)
    with smoke.averaged(), torch.no_grad():
        output = smoke.look(batch, None)
    last = losses(output, targets(batch), 5.0).numbers()
    assert last["camera"] < 0.05 * first["camera"] and last["point"] < 0.2 * first["point"]
    found = summary([measures(output, targets(batch), batch.images.shape[-2:])])
    assert found["rotation"] < 3 and found["direction"] < 6 and found["absrel"] < 0.08


def test_a_run_logs_checks_and_keeps_its_newest_states(finished):
    run, quick = finished
    lines = log.read(run)
    steps, totals = log.series(lines, "step", "total")
    assert list(steps) == [2, 4, 6] and np.isfinite(totals).all()
    assert list(log.series(lines, "check", "check_rotation")[0]) == [5]
    assert lines[0]["event"] == "start" and lines[-1]["event"] == "stop" and lines[-1]["done"]
    shapes = [shape_of_step(quick.settings, step) for step in range(6)]
    assert lines[-1]["views"] == sum(shape.scenes * shape.views for shape in shapes)
    assert [folder.name for folder in state.states(run)] == ["state-00000006"]


def test_a_run_keeps_two_states(tmp_path):
    quick = Learner(QUICK, "cpu")
    for step in (3, 7, 9):
        quick.step = step
        state.save(quick, tmp_path)
    assert [folder.name for folder in state.states(tmp_path)] == ["state-00000007", "state-00000009"]
    # A state whose writing was cut off has no index and does not count.
    (tmp_path / "state-00000009" / shards.INDEX).unlink()
    assert state.newest(tmp_path).name == "state-00000007"


def test_going_on_is_going_on_exactly(finished, tmp_path):
    run, quick = finished
    more = replace(quick.settings, steps=9)
    straight = Learner(more, "cpu")
    for _ in range(9):
        # The schedule of the first part was that of a shorter run.
        straight.settings = quick.settings if straight.step < 6 else more
        straight.learn()
    resumed = loop.resume(run, tmp_path / "other", "cpu", more)
    assert same(resumed, quick)
    loop.train(resumed, tmp_path / "other", minutes=5.0)
    assert same(resumed, straight)
    assert list(log.series(log.read(tmp_path / "other"), "step", "total")[0]) == [2, 4, 6, 8, 9]


def test_a_packed_state_is_nearly_the_same(finished):
    run, quick = finished
    packed = run.parent / "packed"
    assert {path.name for path in packed.iterdir()} == {
        "part-00.safetensors",
        "index.json",
        "settings.json",
        "log.jsonl",
    }
    back = Learner(Settings.load(packed / "settings.json"), "cpu")
    state.restore(back, state.newest(packed))
    assert back.step == 6
    batch = quick.batch(17)
    wanted = targets(batch)
    with torch.no_grad():
        total = [float(losses(one.look(batch, None), wanted, 5.0).total) for one in (quick, back)]
    assert total[1] == pytest.approx(total[0], rel=0.02)
    for (name, parameter), other in zip(quick.network.named_parameters(), back.network.parameters(), strict=True):
        assert torch.allclose(parameter, other, rtol=1e-3, atol=1e-6), name
    for second, own in zip(moments(quick, "exp_avg_sq"), moments(back, "exp_avg_sq"), strict=True):
        assert own.shape == second.shape
        assert float(own.mean()) == pytest.approx(float(second.mean()), rel=1e-3, abs=1e-12)
    drift = [
        (a - b).norm() / (a - p).norm() for a, b, p in zip(quick.average, back.average, quick.network.parameters())
    ]
    assert torch.stack(drift).nan_to_num().median() < 0.1
    assert {float(step) for step in moments(back, "step")} == {6.0}


def test_the_packed_state_of_the_full_network_passes_a_narrow_door(tmp_path):
    """At most 8 files of 16 MB, in all so few that a checkout travels beside them."""
    full = Learner(PRESETS["nano"], "cpu")
    for parameter in full.network.parameters():
        state_of = {
            "step": torch.tensor(5.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": parameter.detach() ** 2,
        }
        full.optimizer.state[parameter] = state_of
    files = state.pack(full, tmp_path / "packed")
    sizes = [path.stat().st_size for path in files]
    assert len(files) + 2 <= 8 and max(sizes) <= 16_000_000 and sum(sizes) <= 47_000_000
    parameters = sum(p.numel() for p in full.network.parameters())
    assert 14e6 <= parameters <= 20e6 and 2 * parameters <= export.LARGEST
    again = Learner(replace(PRESETS["nano"], seed=2), "cpu")
    state.restore(again, tmp_path / "packed")
    first, second = (next(iter(one.network.parameters())) for one in (full, again))
    assert torch.allclose(first, second, rtol=1e-3, atol=1e-7)


def test_four_bits_keep_a_difference_within_a_fourteenth_of_its_block():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 1e-5
    x[64:128] = 0
    codes, scale = state.quantised(x)
    back = state.dequantised(codes, scale, x.shape)
    assert codes.nbytes == 512 and (back[64:128] == 0).all()
    blocks = torch.nn.functional.pad(x, (0, 24)).view(-1, 64).abs().amax(1).repeat_interleave(64)[:1000]
    assert ((x - back).abs() <= blocks * (1 / 14 + 2e-3)).all()


def test_weights_that_ship_run_in_the_package(finished, tmp_path):
    run, quick = finished
    paths = export.export(quick, run, tmp_path / "weights")
    assert paths[0].stat().st_size < export.LARGEST
    card = paths[2].read_text()
    assert "Apache-2.0" in card and "| steps | 6 of 6 planned |" in card and "processor" in card and "At step 5" in card
    config = ModelConfig(name="nano", checkpoint=str(paths[0]), threads=1)
    model = create_model(config)
    model.load()
    rng = np.random.default_rng(0)
    K = np.array([[40.0, 0, 20.5], [0, 40, 13.5], [0, 0, 1]])
    frames = tuple(Keyframe(i, i, rng.integers(0, 255, (28, 42, 3), np.uint8), Camera(42, 28, K), "c", 0.0, "test")
                   for i in range(3))  # fmt: skip
    prediction = model.infer(Window(0, frames, 0))
    assert prediction.state is WindowState.OK and prediction.posed.all() and not model.random_weights
    assert "RANDOM" not in prediction.note


def test_weights_that_broke_down_do_not_ship(finished, tmp_path):
    run, quick = finished
    kept = quick.average[0].clone()
    quick.average[0].fill_(1e30)
    with pytest.raises(OutputError, match="broken down"):
        export.export(quick, run, tmp_path)
    quick.average[0].copy_(kept)


def test_the_commands_need_torch_numpy_and_safetensors_only(tmp_path):
    run, packed, on, out = (tmp_path / name for name in ("run", "packed", "on", "weights"))
    commands = [
        ["run", run, "--preset", "smoke", "--plan", "9", "--minutes", "0.02", "--threads", "1", "--pack", packed],
        ["resume", packed, "--folder", on, "--minutes", "0.02", "--steps", "5000"],
        ["export", on, out],
    ]
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", WITHOUT_OTHERS, words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "steps for 9 minutes in all" in done.stdout and "packed into" in done.stdout
    stops = [line["step"] for line in log.read(on) if line["event"] == "stop"]
    assert 1 <= stops[0] < stops[1] < 5000 and Settings.load(on / "settings.json").steps == 5000
    assert Settings.load(run / "settings.json").steps != PRESETS["smoke"].steps
    assert (out / "nano.safetensors").is_file()


def test_mistakes_are_told_in_sentences(finished, tmp_path):
    run, _ = finished
    with pytest.raises(OutputError, match="holds a run already"):
        loop.start(QUICK, run, "cpu")
    with pytest.raises(InputError, match="no training state"):
        state.newest(tmp_path)
    with pytest.raises(InputError, match="no training settings"):
        loop.resume(tmp_path, tmp_path / "x", "cpu")
    with pytest.raises(InputError, match="packed state: name the folder"):
        main(["resume", str(run.parent / "packed"), "--minutes", "1"])
    with pytest.raises(ConfigError, match="multiples of 14"):
        replace(QUICK, sizes=(((30, 42), 1.0),))
    with pytest.raises(ConfigError, match="Unknown training settings colour"):
        Settings.read({"colour": 1})
    with pytest.raises(ConfigError, match="Unknown training preset 'huge'"):
        preset("huge")
    other = Learner(replace(QUICK, network={**QUICK.network, "aa_depth": 5}), "cpu")
    with pytest.raises(InputError, match="another network"):
        state.restore(other, state.newest(run))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "index.json").write_text('{"files": ["part-00.safetensors"], "step": 3}')
    (damaged / "part-00.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(InputError, match="no whole training state"):
        state.restore(other, damaged)


def test_settings_survive_their_file(tmp_path):
    for settings in PRESETS.values():
        (tmp_path / "settings.json").write_text(settings.to_json())
        assert Settings.load(tmp_path / "settings.json") == settings


def test_gradients_that_are_not_finite_are_skipped_and_end_a_run_that_has_nothing_else():
    quick = Learner(QUICK, "cpu")
    quick.learn()
    before = [p.detach().clone() for p in quick.network.parameters()]
    broken = quick.settings.camera_weight
    quick.settings = replace(QUICK, camera_weight=math.nan)
    quick.learn()
    assert all(torch.equal(a, b) for a, b in zip(before, quick.network.parameters(), strict=True))
    quick.skipped = MOST_SKIPPED - 1
    with pytest.raises(ModelError, match="not finite"):
        quick.learn()
    quick.settings = replace(QUICK, camera_weight=broken)
    quick.learn()
    assert quick.skipped == 0


def test_the_schedule_warms_up_and_comes_down():
    settings = replace(PRESETS["nano"], steps=1000, warmup=100)
    rates = np.array([learning_rate(step, settings) for step in range(1001)])
    assert rates.argmax() in (99, 100) and rates.max() == pytest.approx(settings.lr)
    assert (np.diff(rates[:100]) > 0).all() and (np.diff(rates[101:]) < 0).all()
    assert rates[-1] == pytest.approx(settings.lr * settings.last_lr)


def test_views_and_sizes_grow_and_a_step_keeps_its_number_of_pixels():
    settings = replace(PRESETS["nano"], steps=1000)
    shapes = [shape_of_step(settings, number) for number in range(0, 1000, 5)]
    views = np.array([shape.views for shape in shapes])
    assert views[:10].max() <= 4 and views.min() == settings.fewest_views and views.max() == settings.most_views
    coarse, fine = shapes[:80], shapes[80:]
    assert {shape.size for shape in fine} == {size for size, _ in settings.sizes}
    assert all(side % 14 == 0 for shape in coarse for side in shape.size) and (84, 112) in {s.size for s in coarse}
    pixels = np.array([shape.scenes * shape.views * shape.size[0] * shape.size[1] for shape in shapes])
    largest = settings.views_per_step * 224 * 168
    assert (pixels <= largest).all() and (pixels > 0.6 * largest).all()
    assert shape_of_step(settings, 77) == shape_of_step(settings, 77)


def test_the_average_is_swapped_in_and_out():
    quick = Learner(QUICK, "cpu")
    quick.learn()
    weights, average = [p.detach().clone() for p in quick.network.parameters()], [a.clone() for a in quick.average]
    with quick.averaged():
        assert all(torch.equal(p, a) for p, a in zip(quick.network.parameters(), average, strict=True))
    assert all(torch.equal(p, w) for p, w in zip(quick.network.parameters(), weights, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(quick.average, average, strict=True))


def test_checks_are_of_scenes_that_no_run_sees():
    quick = Learner(QUICK, "cpu")
    first, second = quick.check(), quick.check()
    assert first == second and set(first) == {
        "check_rotation",
        "check_direction",
        "check_absrel",
        "check_following",
    }
    assert learner.CHECK_SEED not in {settings.seed for settings in PRESETS.values()}


def test_a_plan_is_measured_here(monkeypatch, capsys):
    monkeypatch.setattr(plan, "WARM", 0)
    monkeypatch.setattr(plan, "COUNTED", 1)
    main(["plan", "--preset", "smoke", "--minutes", "1", "--device", "cpu"])
    said = capsys.readouterr().out
    assert "s a step of 3 views" in said and "1 minutes hold" in said


def test_a_plan_leaves_time_for_checks_and_saving():
    found = plan.Plan(step_s=0.1, rendering_s=0.02, check_s=5.0, bytes=0)
    settings = replace(PRESETS["nano"], check_every=100)
    assert found.steps(10, settings) == int(0.9 * 600 / (0.1 + 0.05))


def test_low_precision_learns_too():
    quick = Learner(replace(QUICK, bf16=True), "cpu")
    found, norm = quick.learn()
    assert math.isfinite(float(found.total.detach())) and math.isfinite(norm)
    assert all(p.dtype == torch.float32 for p in quick.network.parameters())


def test_the_curves_are_drawn(finished, tmp_path):
    pytest.importorskip("matplotlib")
    log.plot(finished[0], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_the_network_is_the_one_that_ships():
    assert PRESETS["nano"].network == {} and SETTINGS["embed_dim"] == 256
