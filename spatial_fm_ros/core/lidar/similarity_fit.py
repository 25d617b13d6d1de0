"""A cloud without metres onto a metric one: Sim(3), point to plane, with priors, by Gauss-Newton.

A free scale lets point-to-plane residuals fall by shrinking the cloud onto a single wall. Two things prevent
that: everything is scaled about the cameras, whose place in the metric cloud is known to centimetres, and the
bounding boxes of both clouds, cropped to what both see, hold the scale loosely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.geometry.robust import MAD_TO_SIGMA, TUKEY
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.lidar.planes import Normal, PlaneCloud, Planes, normal_equations, stepped
from spatial_fm_ros.core.types import Array

ITERATIONS = 10
#: The reach of a point for its plane shrinks by this factor an iteration.
NARROWING = 0.6
#: Error of a metric surface point, metres, and of a network's depth averaged over a patch, share of depth.
SURFACE_M, DEPTH_SHARE = 0.02, 0.02
#: Points err together: those of a smoothed patch, those of several keyframes on one surface, and planes that share
#: LiDAR points. So many of them count as one against the priors; without that, millimetres of common error on one
#: wall move the cameras by centimetres and the scale by per cents along directions that are hardly seen.
CORRELATED = 12.0
#: Directions from the cameras are compared in bins of this size.
BIN_RAD = np.radians(3.0)
MIN_MATCHES = 30


@dataclass(frozen=True, eq=False)
class Source:
    """The cloud to move: points [N, 3] in its own units, unit rays [N, 3] from its camera to each (own axes),
    depth [N] along them (own units), group [N]: the keyframe a point is of; centre [3]: of the cameras."""

    points: Array
    rays: Array
    depth: Array
    group: NDArray[np.int64]
    centre: Array


@dataclass(frozen=True, eq=False)
class Target:
    """Metric points, thinned to one per `cell` (metres), with the plane at each."""

    cloud: PlaneCloud
    planes: Planes
    cell: float


@dataclass(frozen=True)
class Priors:
    """Standard deviations of what is known beforehand: rotation (rad per axis), where the cameras' centre lies
    (metres per axis), log-scale of the boxes."""

    rotation: float
    translation: float
    box: float


@dataclass(frozen=True, eq=False)
class Fit:
    """metric_from_source, with the robust distance of matched points from their planes (metres) before and
    after, the share of points that lie on a plane, and the log-scale's deviations: sigma from noise,
    systematic from what the priors leave open."""

    sim: Sim3
    before_m: float
    after_m: float
    inlier_share: float
    matched: int
    sigma: float
    systematic: float


def target_of(points: Array, cell: float) -> Target:
    """Planes of a metric cloud [N, 3] thinned to one point per `cell`, through neighbours within 2.5 cells."""
    cloud = PlaneCloud(points, 2.5 * cell)
    return Target(cloud, cloud.planes_at(cloud.points), cell)


def fit(source: Source, target: Target, start: Sim3, reach: float, priors: Priors) -> Fit | None:
    """The similarity of least robust point-to-plane distance near `start`; None where too few points match.

    `reach`: how far from their planes points may lie at the beginning, metres.
    """
    problem = _Problem(source, target, start, priors, box_ratio(source, target, start))
    sim, smallest = start, 2.0 * target.cell
    for i in range(ITERATIONS):
        at = problem.at(sim, max(reach * NARROWING**i, smallest))
        if at.planes.flat.sum() < MIN_MATCHES:
            return None
        normal = problem.with_priors(sim, at.normal(source.centre, sim))
        step = -np.linalg.solve(normal.information, normal.gradient)
        sim = stepped(sim, step, sim.apply(source.centre))
        if i > 4 and np.abs(step).max() < 1e-4:
            break
    return _judged(problem, sim, smallest)


@dataclass(frozen=True, eq=False)
class _Matches:
    """Points moved by a similarity, the plane of each (not flat: none in reach), their weights per m^2."""

    moved: Array
    planes: Planes
    weights: Array

    def normal(self, centre: Array, sim: Sim3, rows: NDArray[np.int64] | None = None) -> Normal:
        """Normal equations about the cameras, of all points or of some."""
        planes, moved, weights = self.planes, self.moved, self.weights
        if rows is not None:
            planes = Planes(planes.centre[rows], planes.normal[rows], planes.flat[rows])
            moved, weights = moved[rows], weights[rows]
        return normal_equations(moved, planes, weights, sim.apply(centre))


@dataclass(frozen=True, eq=False)
class _Problem:
    """What is fitted to what, and from where. box: log-scale by which the boxes say the start is too small."""

    source: Source
    target: Target
    start: Sim3
    priors: Priors
    box: float

    def at(self, sim: Sim3, reach: float) -> _Matches:
        moved = sim.apply(self.source.points)
        distance, index = self.target.cloud.tree.query(moved, distance_upper_bound=reach)
        found = np.isfinite(distance)
        index = np.where(found, index, 0)
        known = self.target.planes
        planes = Planes(known.centre[index], known.normal[index], found & known.flat[index])
        slant = np.einsum("mi,mi->m", self.source.rays @ sim.R.T, planes.normal)
        sigma = np.hypot(SURFACE_M, DEPTH_SHARE * sim.scale * self.source.depth * slant)
        return _Matches(moved, planes, _weights(planes.distance(moved), sigma, planes.flat))

    def with_priors(self, sim: Sim3, normal: Normal) -> Normal:
        """Rotation, place and size drawn to where they began and to the boxes."""
        priors = self.priors
        wanted = np.repeat([priors.rotation**-2, priors.translation**-2, priors.box**-2], (3, 3, 1))
        centre = self.source.centre
        off = np.concatenate(
            [
                Rotation.from_matrix(sim.R @ self.start.R.T).as_rotvec(),
                sim.apply(centre) - self.start.apply(centre),
                [sim.log_scale - self.start.log_scale - self.box],
            ]
        )
        return Normal(normal.information + np.diag(wanted), normal.gradient + wanted * off)


def box_ratio(source: Source, target: Target, start: Sim3) -> float:
    """log of how much larger the target's bounding box is than the moved source's, in the directions both see.

    Of every direction's bin from the cameras the median range counts, so that both sides are sampled alike;
    the box goes from the 5th to the 95th percentile. 0 where they share too little.
    """
    home = start.apply(source.centre)
    ours, ours_bins = _by_direction(start.apply(source.points) - home)
    theirs, theirs_bins = _by_direction(target.cloud.points - home)
    _, a, b = np.intersect1d(ours_bins, theirs_bins, return_indices=True)
    if len(a) < 20:
        return 0.0
    sizes = [np.ptp(np.quantile(side, (0.05, 0.95), axis=0), axis=0) for side in (ours[a], theirs[b])]
    wide = (sizes[0] > 0.2 * sizes[0].max()) & (sizes[1] > 0)
    return float(np.mean(np.log(sizes[1][wide] / sizes[0][wide])))


def _by_direction(arms: Array) -> tuple[Array, Array]:
    """Per bin of direction the point of median range [B, 3], and the bin's number [B]."""
    ranges = np.linalg.norm(arms, axis=1)
    azimuth = np.floor(np.arctan2(arms[:, 1], arms[:, 0]) / BIN_RAD).astype(np.int64)
    elevation = np.floor(np.arcsin(np.clip(arms[:, 2] / np.maximum(ranges, 1e-9), -1, 1)) / BIN_RAD).astype(np.int64)
    number = azimuth * 1000 + elevation
    order = np.lexsort((ranges, number))
    bins, first, count = np.unique(number[order], return_index=True, return_counts=True)
    return arms[order[first + count // 2]], bins


def _weights(distance: Array, sigma: Array, flat: NDArray[np.bool_]) -> Array:
    """Tukey's weights of distances over their expected deviation, per squared metre."""
    relative = distance / sigma
    spread = max(MAD_TO_SIGMA * float(np.median(relative[flat])), 0.5) if flat.any() else 0.5
    robust = np.square(np.maximum(0.0, 1.0 - np.square(relative / (TUKEY * spread))))
    weights: Array = np.where(flat, robust / (CORRELATED * np.square(sigma * spread)), 0.0)
    return weights


def _capped_rms(first: Array, last: Array) -> tuple[float, float]:
    """Root mean square of two sets of distances, none counting more than three deviations of the first set."""
    if not len(first):
        return 0.0, float("inf")
    cap = 3.0 * MAD_TO_SIGMA * float(np.median(first))
    before, after = (float(np.sqrt(np.mean(np.square(np.minimum(each, cap))))) for each in (first, last))
    return before, after


def _judged(problem: _Problem, sim: Sim3, reach: float) -> Fit:
    """Distances before and after on the points that match both times, and the deviations of the log-scale.

    sigma: jackknife over keyframes (Efron 1982), whose points err together, or what the weights say where
    that is more. systematic: what the log-scale gains in variance by not knowing rotation and place.
    """
    source, centre = problem.source, problem.source.centre
    first, last = problem.at(problem.start, 2.0 * reach), problem.at(sim, 2.0 * reach)
    both = first.planes.flat & last.planes.flat
    before, after = _capped_rms(*(m.planes.distance(m.moved)[both] for m in (first, last)))
    final = problem.at(sim, reach)
    whole = final.normal(centre, sim)
    information = problem.with_priors(sim, whole).information
    moves = []
    groups = np.unique(source.group)
    for group in groups:
        part = final.normal(centre, sim, np.flatnonzero(source.group == group).astype(np.int64))
        moves.append(np.linalg.solve(information - part.information, part.gradient)[6])
    scatter = (len(groups) - 1) / len(groups) * float(np.sum(np.square(np.array(moves) - np.mean(moves))))
    alone = 1.0 / whole.information[6, 6]
    free = whole.information + np.diag(
        np.repeat([problem.priors.rotation**-2, problem.priors.translation**-2, 0.0], (3, 3, 1))
    )
    return Fit(
        sim,
        before,
        after,
        float(final.planes.flat.mean()),
        int((final.weights > 0).sum()),
        float(np.sqrt(max(scatter, alone))),
        float(np.sqrt(max(np.linalg.inv(free)[6, 6] - alone, 0.0))),
    )
