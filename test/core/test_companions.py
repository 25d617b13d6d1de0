"""Images of the rig's other cameras find their keyframes, in whatever order they come."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.config import IntakeConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.intake.companions import CompanionBuffer, at_size
from spatial_fm_ros.core.types import Camera, Frame, Keyframe

MS = 1_000_000
SIZE = 24, 16  # width, height


def camera(width=SIZE[0], height=SIZE[1], focal=20.0):
    return Camera(width, height, np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]))


def image(width=SIZE[0], height=SIZE[1]):
    return np.zeros((height, width, 3), np.uint8)


def frame(stamp_ns, name="right", width=SIZE[0], height=SIZE[1]):
    return Frame(stamp_ns, image(width, height), camera(width, height), name)


class Feed:
    """A buffer with numbered views."""

    def __init__(self, gap_s=0.005):
        self.buffer = CompanionBuffer(IntakeConfig(companion_max_gap_s=gap_s))
        self.count = itertools.count(1000)
        self.keyframes = []

    def new_id(self):
        return next(self.count)

    def take(self, keyframes, most):
        return self.buffer.take(keyframes, most, self.buffer.cameras)

    def keyframe(self, number, stamp_ns):
        keyframe = Keyframe(number, stamp_ns, image(), camera(), "left", 0.0, "disparity")
        self.keyframes.append(keyframe)
        self.buffer.expect(keyframe, self.new_id)

    def companion(self, stamp_ns, name="right"):
        self.buffer.add(frame(stamp_ns, name), self.new_id)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 6), st.integers(1, 3))
def test_pairs_do_not_depend_on_the_order_of_arrival(random, count, cameras):
    """Keyframes come in order; each companion some images earlier or later."""
    events = [("keyframe", i, 100 * i, "") for i in range(count)]
    names = [f"camera_{c}" for c in range(cameras)]
    shift = {(i, name): random.randint(-150, 150) for i in range(count) for name in names}
    events += [("companion", i, 100 * i + shift[i, name], name) for i in range(count) for name in names]
    feed = Feed()
    for kind, i, _, name in sorted(events, key=lambda event: event[2]):
        if kind == "keyframe":
            feed.keyframe(i, 100 * i * MS)
        else:
            feed.companion(100 * i * MS + 2 * MS, name)
    found = feed.take(feed.keyframes, 100)
    assert [(c.of, c.view.frame_id) for c in found] == [(i, name) for i in range(count) for name in names]
    assert all(c.view.stamp_ns == 100 * c.of * MS + 2 * MS for c in found)
    assert len({c.view.id for c in found}) == len(found)
    assert feed.buffer.problem == ""


def test_each_is_handed_out_once_and_late_ones_come_with_the_next_window():
    feed = Feed()
    for i in range(4):
        feed.keyframe(i, i * 100 * MS)
        if i < 3:
            feed.companion(i * 100 * MS)
    assert [c.of for c in feed.take(feed.keyframes, 8)] == [0, 1, 2]
    feed.companion(300 * MS)
    feed.keyframe(4, 400 * MS)
    feed.companion(400 * MS)
    assert [c.of for c in feed.take(feed.keyframes[2:], 8)] == [3, 4]
    assert feed.take(feed.keyframes, 8) == ()


def test_of_too_many_the_newest_and_those_spread_evenly_are_taken():
    feed = Feed()
    for i in range(9):
        feed.keyframe(i, i * 100 * MS)
        feed.companion(i * 100 * MS)
    assert [c.of for c in feed.take(feed.keyframes, 3)] == [0, 4, 8]
    assert feed.take(feed.keyframes, 0) == ()


def test_a_camera_without_a_place_is_left_out():
    feed = Feed()
    for i in range(3):
        feed.keyframe(i, i * 100 * MS)
        feed.companion(i * 100 * MS, "right")
        feed.companion(i * 100 * MS, "lost")
    assert {c.view.frame_id for c in feed.buffer.take(feed.keyframes, 8, {"right"})} == {"right"}


def test_the_nearest_of_several_is_taken():
    feed = Feed()
    feed.companion(96 * MS)
    feed.keyframe(0, 100 * MS)
    feed.companion(101 * MS)
    feed.companion(104 * MS)
    assert [c.view.stamp_ns for c in feed.take(feed.keyframes, 8)] == [101 * MS]


def test_a_camera_on_another_clock_is_named():
    feed = Feed()
    for i in range(6):
        feed.companion(i * 100 * MS + 30 * MS)
        feed.keyframe(i, i * 100 * MS)
    assert feed.take(feed.keyframes, 8) == ()
    assert "'right' within 5.0 ms" in feed.buffer.problem and "30.0 ms away" in feed.buffer.problem


def test_two_cameras_in_one_frame_are_named():
    feed = Feed()
    for i in range(4):
        feed.companion(i * 100 * MS, "left")
        feed.keyframe(i, i * 100 * MS)
    assert feed.take(feed.keyframes, 8) == () and "two cameras send in the frame 'left'" in feed.buffer.problem


def test_memory_is_bounded_while_nobody_takes():
    feed = Feed()
    for i in range(300):
        feed.companion(i * 100 * MS - 50 * MS)
        feed.companion(i * 100 * MS)
        feed.keyframe(i, i * 100 * MS)
    assert len(feed.take(feed.keyframes, 1000)) <= 64


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Frame(0, image(), None, "right"), "CameraInfo"),
        (Frame(0, image(30, 20), camera(), "right"), "30x20"),
        (Frame(0, image()[..., 0], camera(), "right"), "RGB"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_with_the_reason(bad, words):
    feed = Feed()
    with pytest.raises(InputError, match=words):
        feed.buffer.add(bad, feed.new_id)
    feed.keyframe(0, 0)
    feed.companion(0)
    assert len(feed.take(feed.keyframes, 8)) == 1


def test_a_lens_that_cannot_be_undone_is_the_problem_and_not_the_end():
    feed = Feed()
    strange = Camera(*SIZE, camera().K, "plumb_bob", (-30.0, 0.0, 0.0, 0.0, 0.0))
    for i in range(4):
        feed.buffer.add(Frame(i * 100 * MS, image(), strange, "right"), feed.new_id)
        feed.keyframe(i, i * 100 * MS)
    assert feed.take(feed.keyframes, 8) == () and "distortion" in feed.buffer.problem


@settings(max_examples=40, deadline=None)
@given(st.integers(16, 90), st.integers(16, 90), st.integers(16, 90), st.integers(16, 90))
def test_another_shape_is_cut_and_keeps_looking_where_it_did(width, height, to_width, to_height):
    """A bright spot's ray is the same after the change, as far as pixels tell."""
    before = camera(width, height, focal=0.8 * width)
    u, v = width // 2 + 1, height // 2 - 1
    spot = image(width, height)
    spot[v - 1 : v + 2, u - 1 : u + 2] = 255
    changed, after = at_size(spot, before, to_width, to_height)
    assert changed.shape == (to_height, to_width, 3) and (after.width, after.height) == (to_width, to_height)
    rows, columns = np.nonzero(changed[..., 0] > 0.5 * changed[..., 0].max())
    ray = np.linalg.inv(after.K) @ (columns.mean(), rows.mean(), 1.0)
    wanted = np.linalg.inv(before.K) @ (u, v, 1.0)
    pixel = max(1.0 / before.K[0, 0], 1.0 / after.K[0, 0], 1.0 / after.K[1, 1])
    assert np.abs(ray - wanted)[:2].max() < 1.5 * pixel
    # Square pixels, as far as what is cut has a whole number of them.
    smallest = min(width / to_width, height / to_height) * min(to_width, to_height)
    assert after.K[0, 0] / after.K[1, 1] == pytest.approx(1.0, abs=1.0 / smallest)
