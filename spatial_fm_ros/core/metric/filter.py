"""The world's scale over time: what several observers say of it, fused, checked against each other, smoothed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spatial_fm_ros.core.config import ScaleConfig
from spatial_fm_ros.core.metric.observers import ScaleObservation
from spatial_fm_ros.core.types import Array, ScaleEstimate, ScaleState

#: An observation further than this many deviations from the estimate is reported, not averaged in.
GATE = 4.0
#: A shift that instruments agree on and that is more than so many deviations is a seam's.
SURPRISE = 2.5
#: Deviation of the log-scale before anything is known: wide enough for any unit.
UNKNOWN = 100.0
#: Windows that later ones may still correct.
REMEMBERED = 24
#: Correlation of the constant errors of two observers of one instrument: the same mount and clock, felt differently.
SHARED_BIAS = 0.5
#: An observer this many times less certain than those in use is no party to a conflict.
WEAKER = 3.0


@dataclass(frozen=True, eq=False)
class _Belief:
    """Of one window: mean [n] and covariance [n, n] of (log-scale, bias of each observer known by then).

    entered: variance the log-scale gained on the way from the window before; seen: what usable observers said, and
    by what log factor the chain had been multiplied for them.
    """

    mean: Array
    covariance: Array
    entered: float
    seen: tuple[ScaleObservation, ...]
    applied: float


class ScaleFilter:
    """Kalman filter of one submap's log-scale with a constant bias per observer.

    Biases of observers of one instrument are correlated (`SHARED_BIAS`), and in questions of agreement these are
    one voice.

    `log_scale` is log(metres per unit) of the chain of windows as seams alone would have built it; what
    the world was corrected by since is told to `update` and `estimate` as `applied`. Seams let the scale
    wander, so its variance grows with every window; a bias is as large as its observer's `systematic`
    and the same for ever, so that many windows do not average it away. `smoothed` are the same scales
    with the knowledge of later windows (Rauch, Tung and Striebel, 1965).

    Where more observers keep denying the estimate than confirm it, or several instruments deny it with one voice, a
    seam has slipped: the scale is then free at the seam where they began to, and what was said since is heard again.
    """

    def __init__(self, config: ScaleConfig) -> None:
        self.config = config
        self.state = ScaleState.RELATIVE
        self.observers: tuple[str, ...] = ()
        self.rejected: tuple[str, ...] = ()
        self.reason = ScaleEstimate().reason
        self._names: list[str] = []  # observers with a bias, in the order of the state
        self._systematic: list[float] = []
        self._siblings: list[int | None] = []  # an earlier observer of the same instrument, by place in `_names`
        self._instruments: list[str] = []
        self._contradictions: Counter[str] = Counter()  # windows in a row, by instrument
        self._last_use: dict[str, int] = {}
        self._conflict_until = -1
        self._window = 0
        self._entered = 0.0  # variance gained since the last update
        self._denied_by = 0.0  # least gap of the newest window's observers, where all of them deny the estimate
        self._mean, self._covariance = self._nothing()
        self._history: deque[_Belief] = deque(maxlen=REMEMBERED)

    @property
    def log_scale(self) -> float:
        return float(self._mean[0])

    @property
    def sigma(self) -> float:
        """Standard deviation of the log-scale, biases included; infinite while nothing is known."""
        sigma = float(np.sqrt(self._covariance[0, 0]))
        return sigma if sigma < 0.5 * UNKNOWN else float("inf")

    @property
    def known(self) -> bool:
        """The scale is good enough to act on, whether or not all observers agree with it."""
        return self.state in (ScaleState.METRIC, ScaleState.CONFLICT)

    def predict(self, drift: float) -> None:
        """A further seam has been chained, whose log-scale has the standard deviation `drift`."""
        self._widen(drift**2)

    def update(self, observations: Sequence[ScaleObservation], applied: float = 0.0) -> None:
        """Fuse what the observers say of the newest window, then settle the state.

        applied: log factor by which the chain had been multiplied in the world they looked at.
        """
        self._window += 1
        seen = [o for o in observations if o.usable]
        for observation in seen:
            self._know(observation)
        agreeing = self._agreeing(seen, applied)
        against = self._against(seen, agreeing)
        if len(against) > len(self._behind(agreeing, against)) or (not agreeing and _in_concert(seen)):
            # More keep denying the estimate than confirm it, or instruments that agree with each other do so at once:
            # it is what is wrong.
            self._slip(against)
            agreeing = self._agreeing(seen, applied)
            against = self._against(seen, agreeing)
        rejected = [f"{o.name}: {o.reason}" for o in observations if not o.usable]
        rejected += [self._contradiction(o, applied) for o in seen if o not in agreeing]
        denied = self._denied(agreeing, against)
        deniers = [] if agreeing else seen
        self._denied_by = min((abs(self._innovation(observation, applied)[0]) for observation in deniers), default=0.0)
        self._loosen(agreeing, applied)
        for observation in agreeing:
            self._fuse(observation, applied)
            self._last_use[observation.instrument] = self._window
        confirmed = {o.instrument for o in agreeing}
        for instrument in {o.instrument for o in seen}:
            self._contradictions[instrument] = 0 if instrument in confirmed else self._contradictions[instrument] + 1
        self._remember(seen, applied)
        self.rejected = tuple(rejected)
        if agreeing:
            self.observers = tuple(o.name for o in agreeing)
        self._settle(present=bool(observations), used=bool(agreeing), denied=denied)

    def smoothed(self) -> Array:
        """Log-scales of the remembered windows, the newest last, given all that is known now. float64 [n]."""
        if not self._history:
            return np.zeros(0)
        later = self._history[-1]
        mean = later.mean
        result = [mean[0]]
        for belief in list(self._history)[-2::-1]:
            before, covariance = self._extended(belief.mean, belief.covariance)
            before, covariance = before[: len(mean)], covariance[: len(mean), : len(mean)]
            predicted = covariance.copy()
            predicted[0, 0] += later.entered
            # In units of the deviations: beside a scale that is free, all others are nothing to the solver.
            units = np.sqrt(np.maximum(np.diagonal(predicted), 1e-300))
            inverse = np.linalg.pinv(predicted / np.outer(units, units), hermitian=True) / np.outer(units, units)
            mean = before + covariance @ inverse @ (mean - before)
            result.append(mean[0])
            later = belief
        return np.array(result[::-1])

    def estimate(self, applied: float = 0.0) -> ScaleEstimate:
        """The published scale of a world to which `applied` has been applied."""
        return ScaleEstimate(
            state=self.state,
            value=float(np.exp(self.log_scale - applied)) if self.known else 1.0,
            sigma=float(np.hypot(self.sigma, self._denied_by)),
            observers=self.observers,
            rejected=self.rejected,
            reason=self.reason,
        )

    # -- fusion --------------------------------------------------------------------------------

    def _slip(self, against: Sequence[str]) -> None:
        """Free the scale at the seam where these instruments began to deny it, and hear again what was said since."""
        denied = max((self._contradictions[instrument] for instrument in against), default=0)
        since: list[_Belief] = []
        while self._history and denied > 0:
            since.insert(0, self._history.pop())
            denied -= any(o.instrument in against for o in since[0].seen)
        known = (self._history[-1].mean, self._history[-1].covariance.copy()) if self._history else self._nothing()
        entered, self._entered = self._entered, 0.0
        self._mean, self._covariance = self._extended(*known)
        self._widen(UNKNOWN**2)
        for belief in since:
            self._widen(belief.entered)
            for observation in self._agreeing(belief.seen, belief.applied):
                self._fuse(observation, belief.applied)
            self._remember(belief.seen, belief.applied)
        self._widen(entered)

    @staticmethod
    def _nothing() -> tuple[Array, Array]:
        """Mean and covariance before anything is known."""
        return np.zeros(1), np.array([[UNKNOWN**2]])

    def _widen(self, variance: float) -> None:
        self._entered += variance
        self._covariance[0, 0] += variance

    def _remember(self, seen: Sequence[ScaleObservation], applied: float) -> None:
        """The newest window's belief goes into the history."""
        belief = _Belief(self._mean.copy(), self._covariance.copy(), self._entered, tuple(seen), applied)
        self._history.append(belief)
        self._entered = 0.0

    def _know(self, observation: ScaleObservation) -> None:
        """Give a new observer its bias."""
        if observation.name in self._names:
            return
        known = observation.instrument in self._instruments
        self._siblings.append(self._instruments.index(observation.instrument) if known else None)
        self._names.append(observation.name)
        self._instruments.append(observation.instrument)
        self._systematic.append(observation.systematic)
        self._mean, self._covariance = self._extended(self._mean, self._covariance)

    def _extended(self, mean: Array, covariance: Array) -> tuple[Array, Array]:
        """A belief with the biases of observers that it did not know: b = r b' + e, where b' is the bias of an
        observer of the same instrument and e is its own."""
        while len(mean) <= len(self._names):
            place = len(mean) - 1
            sibling, own = self._siblings[place], self._systematic[place] ** 2
            link = np.zeros(len(mean))
            if sibling is not None and self._systematic[sibling] > 0:
                link[1 + sibling] = SHARED_BIAS * self._systematic[place] / self._systematic[sibling]
                own *= 1.0 - SHARED_BIAS**2
            across = covariance @ link
            covariance = np.block([[covariance, across[:, None]], [across[None], np.array([[link @ across + own]])]])
            mean = np.append(mean, link @ mean)
        return mean, covariance

    def _row(self, observation: ScaleObservation) -> Array:
        row = np.zeros(len(self._mean))
        row[[0, 1 + self._names.index(observation.name)]] = 1.0
        return row

    def _innovation(self, observation: ScaleObservation, applied: float) -> tuple[float, float]:
        """What the observation says beyond the estimate, and the deviation to be expected of that."""
        row = self._row(observation)
        noise = max(observation.sigma, 1e-6) ** 2
        variance = float(row @ self._covariance @ row) + noise
        return observation.log_scale + applied - float(row @ self._mean), float(np.sqrt(variance))

    def _agreeing(self, seen: Sequence[ScaleObservation], applied: float) -> list[ScaleObservation]:
        """Those that fit the estimate; while there is none, the heaviest group that fits together."""
        if np.isfinite(self.sigma):
            fitting = []
            for observation in seen:
                gap, deviation = self._innovation(observation, applied)
                # A seam may slip further than the filter expects: that alone is no contradiction.
                if abs(gap) <= GATE * max(deviation, self.config.drift_per_window):
                    fitting.append(observation)
            return fitting
        groups = [[b for b in seen if _fit_together(a, b)] for a in seen]
        return max(groups, key=lambda group: sum(_weight(o) for o in group), default=[])

    def _loosen(self, agreeing: Sequence[ScaleObservation], applied: float) -> None:
        """Let the newest seam have erred by what several instruments together are surprised by (its variance by
        covariance matching, Mehra 1972): seams hold for most windows, and slip by a little in some."""
        if not _in_concert(agreeing) or not np.isfinite(self.sigma):
            return
        rows = np.stack([self._row(observation) for observation in agreeing])
        gaps = np.array([self._innovation(observation, applied)[0] for observation in agreeing])
        noise = np.diag([max(observation.sigma, 1e-6) ** 2 for observation in agreeing])
        weights = np.linalg.inv(rows @ self._covariance @ rows.T + noise).sum(axis=0)
        shift, variance = float(weights @ gaps / weights.sum()), 1.0 / float(weights.sum())
        if shift**2 > SURPRISE**2 * variance:
            self._widen(shift**2 - variance)

    def _fuse(self, observation: ScaleObservation, applied: float) -> None:
        gap, deviation = self._innovation(observation, applied)
        row = self._row(observation)
        gain = self._covariance @ row / deviation**2
        self._mean = self._mean + gain * gap
        covariance = self._covariance - np.outer(gain, row @ self._covariance)
        self._covariance = 0.5 * (covariance + covariance.T)

    # -- agreement -----------------------------------------------------------------------------

    def _contradiction(self, observation: ScaleObservation, applied: float) -> str:
        gap, _ = self._innovation(observation, applied)
        return f"{observation.name}: {np.expm1(gap):+.0%} away from the estimate"

    def _behind(self, agreeing: Sequence[ScaleObservation], against: Sequence[str]) -> list[str]:
        """Instruments that confirm the estimate, now or a few windows ago, and do not deny it now."""
        patience = self.config.conflicts_before_restart
        recent = {name for name, used in self._last_use.items() if self._window - used <= patience}
        return sorted((recent | {o.instrument for o in agreeing}) - set(against))

    def _against(self, seen: Sequence[ScaleObservation], agreeing: Sequence[ScaleObservation]) -> list[str]:
        """Instruments that keep denying it and are about as certain as those that confirm it now."""
        certainty = min((_deviation(o) for o in agreeing), default=float("inf"))
        confirming = {o.instrument for o in agreeing}
        return sorted(
            {
                o.instrument
                for o in seen
                if o.instrument not in confirming
                and self._contradictions[o.instrument] + 1 >= self.config.conflicts_before_restart
                and _deviation(o) <= WEAKER * certainty
            }
        )

    def _denied(self, agreeing: Sequence[ScaleObservation], against: Sequence[str]) -> str:
        """Why the estimate is in doubt: as many keep denying it as confirm it. Empty when it is not."""
        behind = self._behind(agreeing, against)
        if not behind or not against or len(against) < len(behind):
            return ""
        return (
            f"{' and '.join(against)} keeps contradicting {' and '.join(behind)}; check units, extrinsics and "
            "time offsets of these sensors"
        )

    def _settle(self, present: bool, used: bool, denied: str) -> None:
        """relative -> metric below metric_sigma, back only above lost_sigma; a conflict ends after as many
        quiet windows as it took to begin."""
        limit = self.config.lost_sigma if self.known else self.config.metric_sigma
        if denied:
            self._conflict_until = self._window + self.config.conflicts_before_restart
        if self.sigma <= limit:
            in_conflict = self._window < self._conflict_until
            self.state = ScaleState.CONFLICT if in_conflict else ScaleState.METRIC
            if in_conflict:
                self.reason = denied or "observers contradicted each other a moment ago"
            else:
                self.reason = "" if used else "held from earlier windows"
        elif present or self.state is not ScaleState.RELATIVE:
            self.state = ScaleState.UNOBSERVABLE
            self.observers = ()
            self.reason = "; ".join(self.rejected) or "the scale has not been seen for too long"
        else:
            self.reason = ScaleEstimate().reason


def _deviation(observation: ScaleObservation) -> float:
    return float(np.hypot(observation.sigma, observation.systematic))


def _weight(observation: ScaleObservation) -> float:
    return 1.0 / max(_deviation(observation), 1e-6) ** 2


def _in_concert(seen: Sequence[ScaleObservation]) -> bool:
    """Several instruments speak, and all that is said fits together."""
    return len({o.instrument for o in seen}) > 1 and all(_fit_together(a, b) for a in seen for b in seen)


def _fit_together(a: ScaleObservation, b: ScaleObservation) -> bool:
    return abs(a.log_scale - b.log_scale) <= GATE * float(np.hypot(_deviation(a), _deviation(b)))
