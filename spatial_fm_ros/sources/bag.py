"""rosbag2 and ROS 1 bags as a source: the same decoders as the live node, without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from spatial_fm_ros.bridge.decode import (
    decode_camera_info,
    decode_compressed_image,
    decode_image,
    decode_imu,
    decode_odometry,
    decode_points,
    decode_transform,
    frame_name,
    stamp_ns,
)
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Camera, Frame, PoseSample, Rig, Sample
from spatial_fm_ros.sources.bag_files import BagFile
from spatial_fm_ros.sources.base import NS, Source, SourceOptions
from spatial_fm_ros.sources.reorder import by_stamp
from spatial_fm_ros.sources.topics import TF, choose_topics
from spatial_fm_ros.sources.transforms import TransformTree

#: Recording order may differ from stamp order by this much (transport, exposure, processing).
HORIZON_NS = NS
#: Frames come this much after the poses and scans of their time, so that those around them are known.
LOOKAHEAD_NS = NS // 4


class BagSource(Source):
    """A bag. Messages that cannot be decoded are counted and skipped; a cut-off bag is read to its end.

    Raises InputError when the bag cannot be opened, has no images or its topics are ambiguous.
    """

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(path, options)
        self.kind = "ROS 1 bag" if path.suffix == ".bag" else "rosbag2"
        self._bag = BagFile(path)
        self.notes = self._bag.notes
        try:
            self._prepare(path, options)
        except BaseException:
            self._bag.close()
            raise

    def _prepare(self, path: Path, options: SourceOptions) -> None:
        self.topics = choose_topics(self._bag.topics, options, self._encoding, path)
        self._tree = TransformTree()
        self._static_topics = self._tf_topics("tf_static")
        for _, _, message in self._bag.messages(self._static_topics):
            self._take_transforms(message)
        self._body_frame = options.base_frame
        odometry = self._first(self.topics.odometry) if self.topics.odometry else None
        if odometry is not None:
            self._body_frame = str(odometry.child_frame_id).strip().lstrip("/") or options.base_frame
        self._info: Any = self._first(self.topics.camera_info) if self.topics.camera_info else None
        image = self._first(self.topics.image)
        self._camera_frame = frame_name(image.header, "camera") if image is not None else "camera"
        self.rig = self._extrinsics()
        self._camera: tuple[Any, tuple[int, int], Camera | None] | None = None
        count = self._bag.topics[self.topics.image].count
        if count:
            share = 1.0
            seconds = (self._bag.end_ns - self._bag.start_ns) / NS
            if seconds > 0:
                share = max(0.0, min(options.stop_s, seconds) - options.start_s) / seconds
            self.length = max(1, round(count * share / options.every))
        self._admitted = 0

    def _encoding(self, topic: str) -> str:
        message = self._first(topic)
        return str(getattr(message, "encoding", getattr(message, "format", "")))

    def _first(self, topic: str) -> Any:
        """The first readable message of a topic, or None."""
        for _, _, message in self._bag.messages([topic]):
            if not isinstance(message, InputError):
                return message
        return None

    def _tf_topics(self, last: str) -> list[str]:
        return [name for name, info in self._bag.topics.items() if info.type == TF and name.rsplit("/", 1)[-1] == last]

    def _take_transforms(self, message: Any) -> int | None:
        """Put a TFMessage into the tree; its newest stamp, or None when nothing of it is usable."""
        newest = None
        if isinstance(message, InputError):
            self.bad[str(message)] += 1
            return None
        for transform in message.transforms:
            parent = frame_name(transform.header, "")
            child = str(transform.child_frame_id).strip().lstrip("/")
            try:
                self._tree.set(parent, child, decode_transform(transform))
                stamp = stamp_ns(transform.header)
            except InputError as error:
                self.bad[f"transform {parent} -> {child}: {error}"] += 1
                continue
            newest = stamp if newest is None else max(newest, stamp)
        return newest

    def _extrinsics(self) -> Rig:
        """Static extrinsics from /tf_static; a missing one is named when its sensor is in use."""
        scan = self._first(self.topics.points) if self.topics.points else None
        imu = self._first(self.topics.imu) if self.topics.imu else None
        poses = bool(self.topics.odometry) or self.options.pose_source == "tf"
        body = self._body_frame
        if not poses and self._tree.find(body, self._camera_frame) is None:
            body = self._camera_frame  # no robot body is known: the camera is the body
        found = {}
        for name, frame, needed in (
            ("camera", self._camera_frame, poses),
            ("lidar", frame_name(scan.header, "lidar") if scan is not None else "", scan is not None),
            ("imu", frame_name(imu.header, "imu") if imu is not None else "", False),
        ):
            found[name] = self._tree.find(body, frame) if frame else None
            if needed and found[name] is None:
                known = ", ".join(self._tree.frames) or "none"
                self.notes.append(
                    f"No static transform connects '{body}' with '{frame}' (frames known: {known}); "
                    f"the {'odometry' if name == 'camera' else 'LiDAR'} cannot be used with the camera. "
                    "Record /tf_static with the bag."
                )
        return Rig(found["camera"], found["lidar"], found["imu"])

    def __iter__(self) -> Iterator[Sample]:
        for make in by_stamp(self._stamped(), HORIZON_NS):
            sample = make()
            if sample is not None:
                yield sample
        if self._admitted == 1:
            self.notes.append(
                f"The bag {self.path.name} gave one image only; a map needs at least two from different places."
            )

    def _stamped(self) -> Iterator[tuple[int, Callable[[], Sample | None]]]:
        """(stamp to sort by, how to decode): images are decoded only when their turn comes."""
        topics = self.topics
        tf = self._tf_topics("tf") if self.options.pose_source == "tf" else []
        names = [topics.image, topics.camera_info, topics.points, topics.odometry, topics.imu, *tf]
        decoders: dict[str, Callable[[Any], Sample]] = {
            topics.points: decode_points,
            topics.odometry: decode_odometry,
            topics.imu: decode_imu,
        }
        start, stop = self._span()
        images = 0
        for topic, time_ns, message in self._bag.messages([n for n in names if n], start, stop):
            if isinstance(message, InputError):
                self.bad[f"{topic}: {message}"] += 1
                continue
            if topic in tf:
                pose = self._pose_from_tf(message)
                if pose is not None:
                    yield pose.stamp_ns, lambda pose=pose: pose  # type: ignore[misc]
                continue
            try:
                stamp = stamp_ns(message.header) or time_ns
            except InputError as error:
                self.bad[f"{topic}: {error}"] += 1
                continue
            if topic == topics.camera_info:
                self._info = message
            elif topic == topics.image:
                if images % self.options.every == 0:
                    info = self._info
                    yield (
                        stamp + LOOKAHEAD_NS,
                        lambda m=message, s=stamp, i=info: self._frame(m, s, i),  # type: ignore[misc]
                    )
                images += 1
            else:
                yield stamp, lambda t=topic, m=message: self._decoded(t, decoders[t], m)  # type: ignore[misc]

    def _span(self) -> tuple[int | None, int | None]:
        """Recording times to read, from seconds after the bag's beginning."""
        options, begin = self.options, self._bag.start_ns
        start = begin + round(options.start_s * NS) if options.start_s > 0 else None
        stop = begin + round(options.stop_s * NS) if options.stop_s < 1e9 else None
        return start, stop

    def _decoded(self, topic: str, decode: Callable[[Any], Sample], message: Any) -> Sample | None:
        try:
            return decode(message)
        except InputError as error:
            self.bad[f"{topic}: {error}"] += 1
            return None

    def _pose_from_tf(self, message: Any) -> PoseSample | None:
        """The body's pose after a TF message, when that message moved it."""
        before = self._tree.find(self.options.odom_frame, self._body_frame)
        stamp = self._take_transforms(message)
        pose = self._tree.find(self.options.odom_frame, self._body_frame)
        if stamp is None or pose is None or (before is not None and (before == pose).all()):
            return None
        return PoseSample(stamp, pose, None, self.options.odom_frame, self._body_frame)

    def _frame(self, message: Any, stamp: int, info: Any) -> Frame | None:
        topic = self.topics.image
        try:
            image = decode_compressed_image(message) if self.topics.compressed else decode_image(message)
            frame_id = frame_name(message.header, "camera")
            height, width = image.shape[:2]
            camera = self.options.camera_for(width, height, self._camera_of(info, (width, height)))
        except InputError as error:
            self.bad[f"{topic}: {error}"] += 1
            return None
        self._admitted += 1
        return Frame(stamp, image, camera, frame_id)

    def _camera_of(self, info: Any, size: tuple[int, int]) -> Camera | None:
        """The camera a CameraInfo describes; None without one. One that does not fit is counted, not used."""
        if info is None:
            return None
        if self._camera is not None and self._camera[0] is info and self._camera[1] == size:
            return self._camera[2]
        camera = None
        try:
            camera = decode_camera_info(info, size, rectified=self.topics.rectified)
        except InputError as error:
            self.bad[f"{self.topics.camera_info}: {error}"] += 1
        if self._camera is not None and camera is not None and _same_camera(self._camera[2], camera):
            camera = self._camera[2]  # keep one object, so that what is cached by camera stays cached
        self._camera = (info, size, camera)
        return camera

    def close(self) -> None:
        self._bag.close()


def _same_camera(a: Camera | None, b: Camera) -> bool:
    if a is None or (a.width, a.height) != (b.width, b.height) or not bool((a.K == b.K).all()):
        return False
    return (a.distortion_model, a.distortion) == (b.distortion_model, b.distortion)
