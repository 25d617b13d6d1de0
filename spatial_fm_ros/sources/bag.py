"""rosbag2 and ROS 1 bags as a source: the same decoders as the live node, without ROS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from spatial_fm_ros.bridge.decode import (
    decode_imu,
    decode_odometry,
    decode_points,
    decode_transform,
    frame_name,
    stamp_ns,
)
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import CompanionFrame, Frame, PoseSample, Rig, Sample
from spatial_fm_ros.sources.bag_camera import BagCamera
from spatial_fm_ros.sources.bag_companions import KeptFrames, Seen, could_come_along, placed
from spatial_fm_ros.sources.bag_files import BagFile
from spatial_fm_ros.sources.base import NS, Source, SourceOptions
from spatial_fm_ros.sources.reorder import by_stamp
from spatial_fm_ros.sources.topics import TF, CameraTopics, choose_topics, colour_topics, info_beside
from spatial_fm_ros.sources.transforms import TransformTree

#: Recording order may differ from stamp order by this much (transport, exposure, processing).
HORIZON_NS = NS
#: Frames come this much after the poses and scans of their time, so that those around them are known.
LOOKAHEAD_NS = NS // 4
#: What the rig's other cameras saw comes before the frame of its time: the window that frame fills shall have it.
COMPANION_LEAD_NS = NS // 100


class BagSource(Source):
    """A bag. Messages that cannot be decoded are counted and skipped; a cut-off bag is read to its end.

    Raises InputError when the bag cannot be opened, has no images or its topics are ambiguous.
    """

    one_camera = False

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
        self._camera = self._open_camera(self.topics.camera, "camera", options)
        companions = [self._open_camera(each, each.image.strip("/"), None) for each in self.topics.companions]
        self.rig = self._extrinsics()
        self._companions = self._place(companions)
        if not options.companion_image_topics:
            self._name_unused()
        count = self._bag.topics[self._camera.topics.image].count
        if count:
            share = 1.0
            seconds = (self._bag.end_ns - self._bag.start_ns) / NS
            if seconds > 0:
                share = max(0.0, min(options.stop_s, seconds) - options.start_s) / seconds
            self.length = max(1, round(count * share / options.every))
        self._admitted = 0

    def _open_camera(self, topics: CameraTopics, frame: str, options: SourceOptions | None) -> BagCamera:
        """A camera; `frame` where its images name none."""
        info = self._first(topics.camera_info) if topics.camera_info else None
        image = self._first(topics.image)
        frame = frame_name(image.header, frame) if image is not None else frame
        rectified = topics.rectified or self.options.image_rectified
        return BagCamera(topics, frame, info, self.bad, options, rectified, self.options.max_pixels)

    def _place(self, companions: list[BagCamera]) -> dict[str, BagCamera]:
        """The rig's other cameras that can be used, by image topic; the rig learns where they sit."""
        poses, unusable, notes = placed(
            self._tree, self._camera.frame, {camera.topics.image: camera.frame for camera in companions}
        )
        self.rig = replace(self.rig, companions=poses)
        self.notes += notes
        return {camera.topics.image: camera for camera in companions if camera.topics.image not in unusable}

    def _name_unused(self) -> None:
        """Notes on cameras that could help and are not asked for."""
        here, topics = self._camera.topics.image, self._bag.topics
        names = [name for name in colour_topics(topics, self._encoding) if name != here and info_beside(topics, name)]
        seen = [self._seen(name) for name in (here, *names)] if names else [None]
        if seen[0] is not None:
            self.notes += could_come_along(self._tree, seen[0], [other for other in seen[1:] if other is not None])

    def _seen(self, topic: str) -> Seen | None:
        image = self._first(topic)
        try:
            return None if image is None else Seen(topic, stamp_ns(image.header), frame_name(image.header, ""))
        except InputError:
            return None  # its images are counted when they are read

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
        body, camera = self._body_frame, self._camera.frame
        if not poses and self._tree.find(body, camera) is None:
            body = camera  # no robot body is known: the camera is the body
        found = {}
        for name, frame, needed in (
            ("camera", camera, poses),
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
        cameras = {self._camera.topics.image: self._camera, **self._companions}
        infos = [camera.topics.camera_info for camera in cameras.values()]
        names = [*cameras, *infos, topics.points, topics.odometry, topics.imu, *tf]
        decoders: dict[str, Callable[[Any], Sample]] = {
            topics.points: decode_points,
            topics.odometry: decode_odometry,
            topics.imu: decode_imu,
        }
        start, stop = self._span()
        kept = KeptFrames(self.options.every)
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
            if topic in infos:
                for camera in cameras.values():
                    if topic == camera.topics.camera_info:
                        camera.info = message
            elif topic == topics.camera.image:
                if kept.take(stamp):
                    yield stamp + LOOKAHEAD_NS, self._frame(self._camera.decoder(message, stamp))
            elif topic in cameras:
                decode = cameras[topic].decoder(message, stamp)
                yield stamp + LOOKAHEAD_NS - COMPANION_LEAD_NS, _companion(decode, kept, stamp)
            else:
                yield stamp, lambda t=topic, m=message: self._decoded(t, decoders[t], m)  # type: ignore[misc]

    def _span(self) -> tuple[int | None, int | None]:
        """Recording times to read, from seconds after the bag's beginning."""
        options, begin = self.options, self._bag.start_ns
        start = begin + round(options.start_s * NS) if options.start_s > 0 else None
        stop = begin + round(options.stop_s * NS) if options.stop_s < 1e9 else None
        return start, stop

    def _frame(self, decode: Callable[[], Frame | None]) -> Callable[[], Frame | None]:
        def make() -> Frame | None:
            frame = decode()
            self._admitted += frame is not None
            return frame

        return make

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

    def close(self) -> None:
        self._bag.close()


def _companion(decode: Callable[[], Frame | None], kept: KeptFrames, stamp: int) -> Callable[[], CompanionFrame | None]:
    def make() -> CompanionFrame | None:
        frame = decode() if kept.beside(stamp) else None
        return None if frame is None else CompanionFrame(frame)

    return make
