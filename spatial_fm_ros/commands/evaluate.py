"""`spatial-fm evaluate trajectory | depth | cloud`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spatial_fm_ros.commands.console import in_sentences, number, out, percent, say, table
from spatial_fm_ros.commands.figures import MADE_BY, target, write_figures, write_plot
from spatial_fm_ros.core.io.names import user_path
from spatial_fm_ros.offline.progress import waiting

if TYPE_CHECKING:
    from spatial_fm_ros.core.geometry.similarity import Sim3
    from spatial_fm_ros.evaluation.trajectory import TrajectoryErrors

app = typer.Typer(no_args_is_help=True, help="Compare results with the truth.")

Json = Annotated[Path | None, typer.Option("--json", help="Write the figures to this JSON file.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Write a plot to this PNG file.")]


class Unit(str, Enum):
    frames = "frames"
    m = "m"


class Scaling(str, Enum):
    none = "none"
    whole = "global"
    image = "image"


class Alignment(str, Enum):
    sim3 = "sim3"
    se3 = "se3"


@app.command()
@in_sentences
def trajectory(
    estimate: Annotated[Path, typer.Argument(help="Estimated trajectory, TUM format.")],
    truth: Annotated[Path, typer.Argument(help="True trajectory, TUM format.")],
    tolerance: Annotated[float, typer.Option(help="Largest difference of matched stamps, seconds.")] = 0.01,
    offset: Annotated[float, typer.Option(help="Added to the truth's stamps, seconds.")] = 0.0,
    delta: Annotated[float, typer.Option(help="Distance of the pairs of the relative error.")] = 1.0,
    delta_unit: Annotated[Unit, typer.Option(help="Frames, or metres along the true path.")] = Unit.frames,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Overlapping pairs too.")] = False,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """ATE after Sim(3) and after SE(3), with the scale factor, and RPE."""
    from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
    from spatial_fm_ros.evaluation.tum import read_tum

    estimate, truth = user_path(estimate), user_path(truth)
    json = target(json, "table of figures", (estimate, truth))
    plot = target(plot, "plot", (estimate, truth, json))
    errors = evaluate_trajectory(
        read_tum(estimate),
        read_tum(truth),
        tolerance_s=tolerance,
        offset_s=offset,
        delta=delta,
        delta_unit=delta_unit.value,
        all_pairs=all_pairs,
    )
    show_trajectory(errors)
    if plot is not None:
        from spatial_fm_ros.evaluation.plots import figure_png, plot_trajectories

        named = [(estimate.stem, errors.sim3.poses[:, :3, 3])]
        picture = plot_trajectories(named, "truth's units", errors.truth.positions, "after Sim(3)")
        write_plot(plot, figure_png(picture, software=MADE_BY))
    write_figures(json, errors.as_dict())


def show_trajectory(errors: TrajectoryErrors) -> None:
    """Print a trajectory's errors."""
    say(
        f"{errors.matched} of {errors.estimate_poses} estimated poses matched ({errors.truth_poses} true ones, "
        f"path {number(errors.truth_path)}); scale factor {number(errors.sim3.truth_from_estimate.scale, 6)} "
        "(truth over estimate, from Sim(3))"
    )
    rows = []
    both = (errors.sim3, errors.se3)
    delta = f"{errors.delta:g} {errors.delta_unit}"
    for title, field in (
        ("ATE", "ate"),
        ("orientation, degrees", "ate_rotation_deg"),
        (f"RPE per {delta}", "rpe"),
        (f"RPE per {delta}, degrees", "rpe_rotation_deg"),
    ):
        for aligned, name in zip(both, ("Sim(3)", "SE(3)")):
            s = getattr(aligned, field)
            rows.append(
                [f"{title} after {name}", *(number(v) for v in (s.rmse, s.mean, s.median, s.max)), str(s.count)]
            )
    table("", ["error", "after", "RMSE", "mean", "median", "max", "count"], rows)


@app.command()
@in_sentences
def depth(
    estimate: Annotated[Path, typer.Argument(help="Folder of depth images, or the output folder of a run.")],
    truth: Annotated[Path, typer.Argument(help="Folder of true depth, a sequence folder, or a simulation's truth.")],
    scaling: Annotated[Scaling, typer.Option(help="Median scaling of the estimate before comparing.")] = Scaling.none,
    min_confidence: Annotated[float, typer.Option(help="Leave out pixels below this confidence.")] = 0.0,
    truth_unit: Annotated[float | None, typer.Option(help="Metres per step of 16-bit truth.")] = None,
    estimate_unit: Annotated[float | None, typer.Option(help="Metres per step of a 16-bit estimate.")] = None,
    tolerance: Annotated[float, typer.Option(help="Largest difference of matched stamps, seconds.")] = 0.01,
    submap: Annotated[int | None, typer.Option(help="Only images of this map.")] = None,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """AbsRel, delta < 1.25, RMSE, and whether confidence keeps its promise."""
    from spatial_fm_ros.evaluation.depth import evaluate_depth, matched_pairs

    estimate, truth = user_path(estimate), user_path(truth)
    json = target(json, "table of figures", (estimate, truth))
    plot = target(plot, "plot", (estimate, truth, json))
    pairs = matched_pairs(
        estimate, truth, truth_unit=truth_unit, estimate_unit=estimate_unit, tolerance_s=tolerance, submap=submap
    )
    with waiting(out, f"comparing {len(pairs)} images"):
        errors = evaluate_depth((make() for make in pairs), scaling=scaling.value, min_confidence=min_confidence)
    scaled = "" if scaling is Scaling.none else f"; estimate times {number(errors.scale)} ({scaling.value} median)"
    say(
        f"{errors.images} images, {errors.pixels} pixels of confidence {min_confidence:g} or more: "
        f"{percent(errors.share)} of those with known truth{scaled}"
    )
    table(
        "",
        ["AbsRel", "median", "RMSE", "delta < 1.25", "within 5 %"],
        [[number(errors.abs_rel), number(errors.median_abs_rel), number(errors.rmse), percent(errors.delta_125),
          percent(errors.within_5)]],
    )  # fmt: skip
    table(
        "confidence against truth",
        ["confidence", "pixels", "within 5 %"],
        [[f"{low:.1f} to {high:.1f}", str(n), percent(share)] for low, high, n, share in errors.reliability if n],
    )
    if plot is not None:
        from spatial_fm_ros.evaluation.plots import figure_png, plot_reliability

        write_plot(plot, figure_png(plot_reliability(errors.reliability), software=MADE_BY))
    write_figures(json, errors.as_dict())


@app.command()
@in_sentences
def cloud(
    estimate: Annotated[Path, typer.Argument(help="Estimated cloud (PLY, PCD).")],
    truth: Annotated[Path, typer.Argument(help="True cloud or mesh vertices (PLY, PCD).")],
    threshold: Annotated[float, typer.Option(help="Distance that counts as right, in the truth's unit.")] = 0.05,
    voxel: Annotated[
        float | None, typer.Option(help="Thin both to one point per voxel; default threshold / 2.")
    ] = None,
    trajectories: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Estimated and true trajectory (TUM) of the same run, to bring the cloud onto the truth."),
    ] = None,
    alignment: Annotated[Alignment, typer.Option(help="How the trajectories are aligned.")] = Alignment.se3,
    icp: Annotated[bool, typer.Option("--icp", help="Refine the alignment rigidly by point-to-plane ICP.")] = False,
    json: Json = None,
) -> None:
    """Accuracy, completeness and F-score; where both clouds have colours, how well these agree."""
    from spatial_fm_ros.core.io.cloud_files import read_points
    from spatial_fm_ros.evaluation.cloud import evaluate_cloud

    estimate, truth = user_path(estimate), user_path(truth)
    paths = [user_path(path) for path in trajectories or ()]
    json = target(json, "table of figures", (estimate, truth, *paths))
    given = _by_trajectories(paths[0], paths[1], alignment) if paths else None
    (seen, seen_colors), (true, true_colors) = read_points(estimate), read_points(truth)
    errors = evaluate_cloud(
        seen,
        true,
        threshold=threshold,
        voxel=voxel,
        truth_from_estimate=given,
        icp=icp,
    )
    say(
        f"{errors.estimate_points} points against {errors.truth_points}, one per {errors.voxel:g}; "
        f"alignment: {errors.alignment}, scale {number(errors.scale, 6)}"
    )
    table(
        "",
        ["", "mean", "median", f"within {threshold:g}"],
        [
            ["accuracy", number(errors.accuracy_mean), number(errors.accuracy_median), percent(errors.precision)],
            ["completeness", number(errors.completeness_mean), number(errors.completeness_median),
             percent(errors.recall)],
            ["F-score", "", "", percent(errors.f_score)],
        ],
    )  # fmt: skip
    figures = errors.as_dict()
    if seen_colors is not None and true_colors is not None:
        from spatial_fm_ros.evaluation.cloud_colour import evaluate_colours

        moved = errors.truth_from_estimate.apply(seen)
        colours = evaluate_colours(moved, seen_colors, true, true_colors, reach=threshold, voxel=2 * threshold)
        unit = "CIE L*a*b* distance"
        table(
            "",
            [f"colour ({unit})", "", "points"],
            [
                ["within a voxel, median", number(colours.consistency), f"{colours.voxels} voxels of 3 or more"],
                ["from the reference, mean", number(colours.reference_mean), percent(colours.compared)],
                ["from the reference, median", number(colours.reference_median), percent(colours.compared)],
            ],
        )
        figures["colour"] = colours.as_dict()
    write_figures(json, figures)


def _by_trajectories(estimate: Path, truth: Path, alignment: Alignment) -> Sim3:
    from spatial_fm_ros.evaluation.trajectory import evaluate_trajectory
    from spatial_fm_ros.evaluation.tum import read_tum

    errors = evaluate_trajectory(read_tum(estimate), read_tum(truth))
    aligned = errors.sim3 if alignment is Alignment.sim3 else errors.se3
    return aligned.truth_from_estimate
