"""rosbag2 and ROS 1 bags as a source: the same decoders as the live node, without ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from spatial_fm_ros.bridge.decode import decode_imu, decode_odometry, decode_points, frame_name
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.optical import frame_doubt
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import CompanionFrame, Frame, ImuSample, LidarScan, PoseSample, Rig, Sample
from spatial_fm_ros.sources.bag_camera import BagCamera
from spatial_fm_ros.sources.bag_companions import KeptFrames, Seen, could_come_along, placed
from spatial_fm_ros.sources.bag_files import BagFile, decoded
from spatial_fm_ros.sources.bag_frames import SensorFrames
from spatial_fm_ros.sources.bag_stamps import Stamps
from spatial_fm_ros.sources.bag_transforms import StillEdges, child_name, edges_of
from spatial_fm_ros.sources.base import NS, Source, SourceOptions
from spatial_fm_ros.sources.reasons import Reasons
from spatial_fm_ros.sources.reorder import RecordingOrder, by_stamp
from spatial_fm_ros.sources.topics import (
    LOOKED_AT,
    TF,
    CameraTopics,
    carries_messages,
    choose_topics,
    colour_topics,
    info_beside,
)
from spatial_fm_ros.sources.transforms import TransformTree, known_frames

#: Recording order may differ from stamp order by this much (transport, exposure, processing).
HORIZON_NS = NS
#: Frames come this much after the poses and scans of their time, so that those around them are known.
LOOKAHEAD_NS = NS // 4
#: What the rig's other cameras saw comes before the frame of its time: the window that frame fills shall have it.
COMPANION_LEAD_NS = NS // 100
#: Calibrations among which one in the images' frame is looked for.
INFOS_LOOKED_AT = 20
#: A calibration that is sent again and again is found this long before --start.
RECENT_NS = 10 * NS


class BagSource(Source):
    """A bag. Messages that cannot be decoded are counted and skipped; a cut-off bag is read to its end.

    Raises InputError when the bag cannot be opened, has no images, its topics are ambiguous, or --start lies beyond
    its end.
    """

    one_camera = False

    def __init__(self, path: Path, options: SourceOptions) -> None:
        super().__init__(path, options)
        self.bad = Reasons()
        self._bag = BagFile(path)
        self.kind = "ROS 1 bag" if self._bag.is_ros1 else "rosbag2"
        self.notes = self._bag.notes
        try:
            self._prepare(path, options)
        except BaseException:
            self._bag.close()
            raise

    def _prepare(self, path: Path, options: SourceOptions) -> None:
        self._start_ns, self._stop_ns = self._span()
        try:
            self.topics = choose_topics(self._bag.topics, options, self._encoding, path)
        except InputError as error:  # what was left aside may be what is missing
            raise InputError(" ".join([str(error), *self.notes[:5]])) from error
        self._stamps, self._frames = Stamps(), SensorFrames()
        self._tree = TransformTree()
        self._tf = self._tf_topics("tf")
        self._still = StillEdges(self._bag, self._tf)
        for topic, time_ns, message in self._bag.messages(self._tf_topics("tf_static")):
            self._take_transforms(topic, time_ns, message)
        self._body_frame = options.base_frame
        odometry = self._first(self.topics.odometry) if self.topics.odometry else None
        if odometry is not None:
            self._body_frame = child_name(odometry) or options.base_frame
        self._camera = self._open_camera(self.topics.camera, "camera", options)
        companions = [self._open_camera(each, each.image.strip("/"), None) for each in self.topics.companions]
        self.rig = self._extrinsics(companions)
        self._companions = self._place(companions)
        if not options.companion_image_topics:
            self._name_unused()
        for child, parents in self._tree.reparented.items():
            self.notes.append(
                f"The frame '{shown(child)}' has several parents in TF ({shown(', '.join(parents))}); the newest "
                "counts."
            )
        count = self._bag.topics[self._camera.topics.image].count
        if count:
            share = 1.0
            seconds = (self._bag.end_ns - self._bag.start_ns) / NS
            if seconds > 0:
                share = max(0.0, min(options.stop_s, seconds) - options.start_s) / seconds
            self.length = max(1, round(count * share / options.every))
        self._admitted = 0
        self._last_pose = (0, 0)

    def _span(self) -> tuple[int | None, int | None]:
        """Recording times to read, from seconds after the bag's beginning. Raises InputError for a part without any."""
        options, begin, end = self.options, self._bag.start_ns, self._bag.end_ns
        start = begin + round(options.start_s * NS) if options.start_s > 0 else None
        stop = begin + round(options.stop_s * NS) if options.stop_s < 1e9 else None
        if start is not None and end and start >= end:
            raise InputError(
                f"The {self.kind} {shown(self.path)} is {(end - begin) / NS:.3f} s long (recorded from "
                f"{begin / NS:.3f} to {end / NS:.3f} s); --start {options.start_s:g} lies beyond its end."
            )
        return start, stop

    def _open_camera(self, topics: CameraTopics, frame: str, options: SourceOptions | None) -> BagCamera:
        """A camera; `frame` where its images name none."""
        image = self._first(topics.image, self._start_ns) or self._first(topics.image)
        frame = frame_name(image.header, frame) if image is not None else frame
        info = self._calibration(topics.camera_info, frame) if topics.camera_info else None
        is_body = self.options.image_frame_is_body
        if is_body:
            self._tree.set_optical(frame)
        rectified = topics.rectified or self.options.image_rectified
        return BagCamera(topics, frame, info, self.bad, options, rectified, self.options.max_pixels, is_body)

    def _calibration(self, topic: str, frame: str) -> Any:
        """The CameraInfo that holds where reading begins: the newest before, else the first, of the images' frame."""
        infos: list[Any] = []
        if self._start_ns is not None:
            for begin in (self._start_ns - RECENT_NS, None):
                newest = deque(self._bag.raw([topic], begin, self._start_ns), maxlen=1)
                if newest:
                    infos.append(decoded(newest[0][0], newest[0][2]))
                    break
        for _, _, message in self._bag.messages([topic], self._start_ns):
            infos.append(message)
            if len(infos) == INFOS_LOOKED_AT or _has_frame(message, frame):
                break
        readable = [info for info in infos if not isinstance(info, InputError)]
        return next((info for info in readable if _has_frame(info, frame)), readable[0] if readable else None)

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
        here, topics = self._camera.topics.image, carries_messages(self._bag.topics)
        names = [name for name in colour_topics(topics, self._encoding) if name != here and info_beside(topics, name)]
        seen = [self._seen(name) for name in (here, *names[:LOOKED_AT])] if names else [None]
        if seen[0] is not None:
            self.notes += could_come_along(self._tree, seen[0], [other for other in seen[1:] if other is not None])

    def _seen(self, topic: str) -> Seen | None:
        for _, time_ns, image in self._bag.messages([topic]):
            try:
                if not isinstance(image, InputError):
                    return Seen(topic, Stamps().of(topic, image.header, time_ns), frame_name(image.header, ""))
            except InputError:
                return None  # its images are counted when they are read
        return None

    def _encoding(self, topic: str) -> str:
        message = self._first(topic)
        return str(getattr(message, "encoding", getattr(message, "format", "")))

    def _first(self, topic: str, start_ns: int | None = None) -> Any:
        """The first readable message of a topic, or None."""
        for _, _, message in self._bag.messages([topic], start_ns):
            if not isinstance(message, InputError):
                return message
        return None

    def _tf_topics(self, last: str) -> list[str]:
        return [name for name, info in self._bag.topics.items() if info.type == TF and name.rsplit("/", 1)[-1] == last]

    def _take_transforms(self, topic: str, time_ns: int, message: Any) -> dict[str, int]:
        """Put a TFMessage into the tree: the stamps of the frames it moved, by frame."""
        stamps: dict[str, int] = {}
        if isinstance(message, InputError):
            self.bad[f"{shown(topic)}: {message}"] += 1
            return stamps
        for parent, child, transform in edges_of(message, self.bad):
            try:
                self._tree.set(parent, child, transform.transform)
                if topic in self._tf:
                    stamps[child] = self._stamps.of(topic, transform.header, time_ns)
            except InputError as error:
                self.bad[f"transform {shown(parent, 60)} -> {shown(child, 60)}: {error}"] += 1
        return stamps

    def _extrinsics(self, companions: list[BagCamera]) -> Rig:
        """Static extrinsics from /tf_static, and from edges of /tf that stand still where that holds none.

        A missing one is named when its sensor is in use.
        """
        scan = self._first(self.topics.points) if self.topics.points else None
        imu = self._first(self.topics.imu) if self.topics.imu else None
        poses = bool(self.topics.odometry) or self.options.pose_source == "tf"
        body, camera = self._body_frame, self._camera.frame
        lidar = frame_name(scan.header, "lidar") if scan is not None else ""
        pairs = [(camera, companion.frame) for companion in companions]
        pairs += [(body, camera)] if poses else []
        pairs += [(body if poses else camera, lidar)] if lidar else []
        self.notes += self._still.tie(self._tree, pairs)
        if not poses and self._tree.find(body, camera) is None:
            body = camera  # no robot body is known: the camera is the body
        found = {}
        for name, frame, needed in (
            ("camera", camera, poses),
            ("lidar", lidar, scan is not None),
            ("imu", frame_name(imu.header, "imu") if imu is not None else "", False),
        ):
            found[name] = self._tree.find(body, frame) if frame else None
            if needed and found[name] is None:
                self.notes.append(
                    f"No static transform connects '{shown(body)}' with '{shown(frame)}' (frames known: "
                    f"{known_frames(self._tree)}); the {'odometry' if name == 'camera' else 'LiDAR'} cannot be used "
                    "with the camera. Record /tf_static with the bag."
                )
        mount = found["camera"]
        doubt = frame_doubt(mount, camera, body) if mount is not None and (poses or body != camera) else ""
        return Rig(mount, found["lidar"], found["imu"], frame_doubt=doubt)

    def __iter__(self) -> Iterator[Sample]:
        try:
            for make in by_stamp(self._stamped(), HORIZON_NS):
                sample = make()
                if sample is not None:
                    yield sample
        finally:
            self.notes += self._stamps.notes()
            self.notes += self._frames.notes()
            for camera in (self._camera, *self._companions.values()):
                self.notes += camera.notes()
        if self.options.pose_source == "tf" and self._last_pose == (0, 0):
            self.notes.append(
                f"TF never tied '{shown(self.options.odom_frame)}' to '{shown(self._body_frame)}' (frames known: "
                f"{known_frames(self._tree)}): there are no poses; ros.odom_frame and ros.base_frame name the two."
            )
        if self._admitted == 0:
            self.notes.append(self._why_no_image())
        elif self._admitted == 1:
            self.notes.append(
                f"The bag {shown(self.path.name)} gave one image only; a map needs at least two from different places."
            )

    def _why_no_image(self) -> str:
        topic, (start, stop), begin = self._camera.topics.image, (self._start_ns, self._stop_ns), self._bag.start_ns
        inside, first, last = self._bag.count_between(topic, start, stop)
        if not inside and last:
            return (
                f"None of the messages of '{shown(topic)}' lies in the part that was read: they were recorded from "
                f"{(first - begin) / NS:.3f} to {(last - begin) / NS:.3f} s after the beginning; choose --start and "
                "--stop accordingly."
            )
        return f"None of the {inside} messages of '{shown(topic)}' could be used as an image."

    def _stamped(self) -> Iterator[tuple[int, Callable[[], Sample | None]]]:
        """(stamp to sort by, how to decode): images are decoded only when their turn comes."""
        topics = self.topics
        tf = self._tf if self.options.pose_source == "tf" else []
        cameras = {self._camera.topics.image: self._camera, **self._companions}
        infos = [camera.topics.camera_info for camera in cameras.values()]
        names = {*cameras, *infos, topics.points, topics.odometry, topics.imu, *tf} - {""}
        decoders: dict[str, Callable[[Any], PoseSample | ImuSample | LidarScan]] = {
            topics.points: decode_points,
            topics.odometry: decode_odometry,
            topics.imu: decode_imu,
        }
        kept, order = KeptFrames(self.options.every), RecordingOrder(HORIZON_NS)
        timed = self._bag.end_ns > self._bag.start_ns  # else nobody wrote down when messages came
        for topic, time_ns, message in self._bag.messages(names, self._start_ns, self._stop_ns):
            if isinstance(message, InputError):
                self.bad[f"{shown(topic)}: {message}"] += 1
            elif topic in tf:
                pose = self._pose_from_tf(topic, time_ns, message)
                if pose is not None:
                    pose = replace(pose, arrived_ns=time_ns if timed else None)
                    yield order.of(pose.stamp_ns, time_ns), lambda pose=pose: pose  # type: ignore[misc]
            elif topic in infos:
                for camera in cameras.values():
                    if topic == camera.topics.camera_info:
                        camera.take_info(message)
            elif cameras[topic].takes(message) if topic in cameras else self._frames.takes(topic, message):
                try:
                    stamp = self._stamps.of(topic, message.header, time_ns)
                except InputError as error:
                    self.bad[f"{shown(topic)}: {error}"] += 1
                    continue
                arrived = time_ns if timed else None
                if topic == topics.camera.image:
                    key = order.of_image(stamp, time_ns) + LOOKAHEAD_NS
                    if kept.take(stamp):
                        yield key, self._frame(self._camera.decoder(message, stamp), arrived)
                elif topic in cameras:
                    decode, key = cameras[topic].decoder(message, stamp), order.of(stamp, time_ns)
                    yield key + LOOKAHEAD_NS - COMPANION_LEAD_NS, _companion(decode, kept, stamp, arrived)
                else:
                    sample = self._decoded(topic, decoders[topic], message, stamp, arrived)
                    yield order.of(stamp, time_ns), sample

    def _frame(self, decode: Callable[[], Frame | None], arrived_ns: int | None) -> Callable[[], Frame | None]:
        def make() -> Frame | None:
            frame = decode()
            self._admitted += frame is not None
            return None if frame is None else replace(frame, arrived_ns=arrived_ns)

        return make

    def _decoded(
        self,
        topic: str,
        decode: Callable[[Any], PoseSample | ImuSample | LidarScan],
        message: Any,
        stamp: int,
        arrived_ns: int | None,
    ) -> Callable[[], Sample | None]:
        def make() -> Sample | None:
            try:
                sample = decode(message)
            except InputError as error:
                self.bad[f"{shown(topic)}: {error}"] += 1
                return None
            return replace(sample, stamp_ns=stamp, arrived_ns=arrived_ns)

        return make

    def _pose_from_tf(self, topic: str, time_ns: int, message: Any) -> PoseSample | None:
        """The body's pose after a TF message that told where it is."""
        ends = self.options.odom_frame, self._body_frame
        stamps = self._take_transforms(topic, time_ns, message)
        pose = self._tree.find(*ends) if stamps else None
        if pose is None:
            return None
        stamp = max((stamps[child] for child in stamps.keys() & self._tree.movers(*ends)), default=None)
        if stamp is None or (stamp, id(pose)) == self._last_pose:
            return None
        self._last_pose = stamp, id(pose)
        return PoseSample(stamp, pose, None, *ends)

    def close(self) -> None:
        self._bag.close()


def _has_frame(info: Any, frame: str) -> bool:
    return not isinstance(info, InputError) and frame_name(info.header, "") == frame


def _companion(
    decode: Callable[[], Frame | None], kept: KeptFrames, stamp: int, arrived_ns: int | None
) -> Callable[[], CompanionFrame | None]:
    def make() -> CompanionFrame | None:
        frame = decode() if kept.beside(stamp) else None
        return None if frame is None else CompanionFrame(replace(frame, arrived_ns=arrived_ns))

    return make
