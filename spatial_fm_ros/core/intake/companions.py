"""Images of the rig's other cameras: found again by the keyframe they were taken with."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass
from threading import Lock

import cv2
import numpy as np

from spatial_fm_ros.core.config import IntakeConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.rectify import Rectifier
from spatial_fm_ros.core.geometry.rotations import is_pose
from spatial_fm_ros.core.intake.stamps import TimeLine
from spatial_fm_ros.core.types import Camera, Companion, CompanionPose, Frame, Image, Keyframe, Prediction, Rig, Window

#: Cameras nearer to each other than this are one camera, or share a frame by mistake.
LEAST_BASELINE_M = 1e-3
#: More cameras than this are no rig: frames of images that change from one to the next.
MOST_CAMERAS = 64
#: Images of one camera that may come before the keyframe they belong to.
WAITING_FRAMES = 8
#: Keyframes whose companions are still waited for, and those whose companions are kept.
WAITING_KEYFRAMES, KEPT_KEYFRAMES = 16, 64
#: After so many keyframes in a row without an image of a camera that sends some, its clock is the matter.
PATIENCE = 3


@dataclass(frozen=True)
class _Expected:
    """A keyframe without its image."""

    id: int
    stamp_ns: int
    frame_id: str
    width: int
    height: int


class CompanionBuffer:
    """Pairs companion images with keyframes, in whichever order they come. Thread-safe.

    Only what belongs to a keyframe is kept, rectified and in the keyframe's size; each is handed out once.
    """

    def __init__(self, config: IntakeConfig) -> None:
        self._max_gap_ns = round(config.companion_max_gap_s * 1e9)
        self._rectifier = Rectifier(config.image_width)
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all images."""
        with self._lock:
            self._lines: dict[str, TimeLine[None]] = {}  # by camera
            self._frames: dict[str, deque[Frame]] = {}  # newest images of each camera
            self._keyframes: deque[_Expected] = deque(maxlen=WAITING_KEYFRAMES)
            self._pairs: dict[int, dict[str, Companion]] = {}  # by keyframe id and frame
            self._alone: Counter[str] = Counter()  # keyframes in a row without an image of a camera
            self._refused = ""  # why the newest image that was wanted could not be used

    def add(self, frame: Frame, new_id: Callable[[], int]) -> None:
        """Take an image; `new_id` numbers the view it may become.

        Raises InputError for one without calibration, that cannot be rectified, or whose stamp is not of this time.
        """
        if frame.camera is None:
            raise InputError(
                f"An image of the rig's camera '{frame.frame_id}' came without calibration; a camera whose place gives "
                "metres needs CameraInfo."
            )
        self._rectifier.check(frame)
        with self._lock:
            self._watch(frame)
            frames = self._frames.setdefault(frame.frame_id, deque(maxlen=WAITING_FRAMES))
            for keyframe in reversed(self._keyframes):
                if self._belongs(frame, keyframe):
                    self._pair(keyframe, frame, new_id)
                    return
            frames.append(frame)

    def _watch(self, frame: Frame) -> None:
        if frame.frame_id not in self._lines and len(self._lines) >= MOST_CAMERAS:
            raise InputError(f"Images of the rig's cameras come in over {MOST_CAMERAS} frames; one each is expected.")
        line = self._lines.setdefault(frame.frame_id, TimeLine(f"An image of '{frame.frame_id}'"))
        if line.admit(frame.stamp_ns, frame.arrived_ns, None).or_raise().moved:
            self._frames.pop(frame.frame_id, None)

    def expect(self, keyframe: Keyframe, new_id: Callable[[], int]) -> None:
        """A keyframe was kept: images that came before it are looked through."""
        with self._lock:
            height, width = keyframe.image.shape[:2]
            expected = _Expected(keyframe.id, keyframe.stamp_ns, keyframe.frame_id, width, height)
            self._keyframes.append(expected)
            for frame_id, frames in self._frames.items():
                self._alone[frame_id] += 1
                near = [frame for frame in frames if self._belongs(frame, expected)]
                if near:
                    best = min(near, key=lambda frame: abs(frame.stamp_ns - keyframe.stamp_ns))
                    try:
                        self._pair(expected, best, new_id)
                    except InputError as error:  # the keyframe does not suffer for it; see `problem`
                        self._refused = str(error)

    def take(self, keyframes: Collection[Keyframe], most: int, mounted: Container[str]) -> tuple[Companion, ...]:
        """At most `most` companions of these keyframes by the cameras in the frames `mounted`, spread evenly over
        them; none is given twice."""
        with self._lock:
            ids = sorted(keyframe.id for keyframe in keyframes)
            found = [
                companion
                for i in ids
                for frame_id, companion in sorted(self._pairs.get(i, {}).items())
                if frame_id in mounted
            ]
            if most <= 0 or not found:
                return ()
            # Counted back from the newest, which is always among them.
            chosen = sorted({len(found) - 1 - round(i) for i in np.linspace(0, len(found) - 1, min(most, len(found)))})
            taken = tuple(found[i] for i in chosen)
            self._pairs = {i: pairs for i, pairs in self._pairs.items() if i > ids[-1]}
            return taken

    @property
    def cameras(self) -> tuple[str, ...]:
        """The frames of the cameras that have sent images."""
        with self._lock:
            return tuple(sorted(self._frames))

    @property
    def problem(self) -> str:
        """Why a camera that sends images gives no companion, empty where all do."""
        with self._lock:
            for frame_id, count in sorted(self._alone.items()):
                if count >= PATIENCE and self._keyframes:
                    return self._refused or self._apart(frame_id)
            return ""

    def _apart(self, frame_id: str) -> str:
        if frame_id == self._keyframes[-1].frame_id:
            return f"two cameras send in the frame '{frame_id}': give each a frame of its own, and TF between them"
        stamp = self._keyframes[-1].stamp_ns
        gaps = [abs(frame.stamp_ns - stamp) for frame in self._frames.get(frame_id, ())]
        near = f", the nearest {min(gaps) / 1e6:.1f} ms away" if gaps else ""
        return (
            f"no image of '{frame_id}' within {self._max_gap_ns / 1e6:.1f} ms of a keyframe{near}: the rig's cameras "
            "must be triggered together, on one clock (intake.companion_max_gap_s)"
        )

    def _belongs(self, frame: Frame, keyframe: _Expected) -> bool:
        # Two cameras in one frame are one place to TF: what it says of them is wrong for one of them.
        return frame.frame_id != keyframe.frame_id and abs(frame.stamp_ns - keyframe.stamp_ns) <= self._max_gap_ns

    def _pair(self, keyframe: _Expected, frame: Frame, new_id: Callable[[], int]) -> None:
        pairs = self._pairs.setdefault(keyframe.id, {})
        known, apart = pairs.get(frame.frame_id), abs(frame.stamp_ns - keyframe.stamp_ns)
        if known is not None and abs(known.view.stamp_ns - keyframe.stamp_ns) <= apart:
            return
        image, camera = self._rectifier.rectify(frame)
        assert camera is not None  # `add` lets no other in
        image, camera = at_size(image, camera, keyframe.width, keyframe.height)
        view = Keyframe(new_id(), frame.stamp_ns, image, camera, frame.frame_id, 0.0, "companion")
        pairs[frame.frame_id] = Companion(keyframe.id, view)
        self._alone[frame.frame_id] = 0
        self._refused = ""
        while len(self._pairs) > KEPT_KEYFRAMES:
            del self._pairs[min(self._pairs)]


def mount_problem(rig: Rig, frame_id: str) -> str:
    """Why the place of the rig's camera that sends in `frame_id` cannot be used, empty when it can."""
    told = rig.companions.get(frame_id)
    if told is None:
        return f"TF has no transform from the camera to the rig's camera '{frame_id}'"
    if not is_pose(told):
        return f"the mount of '{frame_id}' is not a rigid transform (mirrored, scaled or NaN)"
    if np.linalg.norm(told[:3, 3]) < LEAST_BASELINE_M:
        return f"TF has '{frame_id}' in the same place as the camera: give each a frame of its own"
    return ""


def companion_poses(window: Window, prediction: Prediction) -> tuple[CompanionPose, ...]:
    """Where a prediction of `window.with_companions` has the companions; those it does not pose are left out."""
    first = len(window.keyframes)
    return tuple(
        CompanionPose(each.of, each.view.stamp_ns, each.view.frame_id, prediction.world_from_camera[first + i])
        for i, each in enumerate(window.companions)
        if prediction.posed[first + i]
    )


def at_size(image: Image, camera: Camera, width: int, height: int) -> tuple[Image, Camera]:
    """A pinhole image as one of another size: cut to that shape about its middle, then resized; pixels stay square.

    All views of a window must have one size, for networks take no other.
    """
    if (camera.width, camera.height) == (width, height):
        return image, camera
    share = min(camera.width / width, camera.height / height)
    cut_width, cut_height = (min(camera.width, round(share * width)), min(camera.height, round(share * height)))
    left, top = (camera.width - cut_width) // 2, (camera.height - cut_height) // 2
    K = camera.K.copy()
    K[:2, 2] -= (left, top)
    cut = image[top : top + cut_height, left : left + cut_width]
    method = cv2.INTER_AREA if cut_width > width else cv2.INTER_LINEAR
    resized = np.asarray(cv2.resize(cut, (width, height), interpolation=method), dtype=np.uint8)
    return resized, Camera(cut_width, cut_height, K).resized(width, height)
