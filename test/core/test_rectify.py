"""Rectification: what the virtual pinhole shows is where the distorted camera saw it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.cameras import distort, distortion_limit, pinhole_rays, project
from spatial_fm_ros.core.geometry.rectify import MAX_VIEW_DEG, Rectifier, virtual_pinhole
from spatial_fm_ros.core.types import Camera, Frame


def K(f, w, h, shift=(0.0, 0.0)):
    return np.array([[f, 0, (w - 1) / 2 + shift[0]], [0, f * 1.01, (h - 1) / 2 + shift[1]], [0, 0, 1.0]])


BARREL = Camera(640, 480, K(420, 640, 480, (6, -4)), "plumb_bob", (-0.28, 0.07, 1e-3, -5e-4, 0.0))
PINCUSHION = Camera(640, 480, K(500, 640, 480), "plumb_bob", (0.12, 0.01, 0.0, 0.0))
RATIONAL = Camera(640, 480, K(480, 640, 480), "rational_polynomial", (0.2, -0.3, 1e-4, 1e-4, 0.02, 0.5, -0.35, 0.01))
FISHEYE = Camera(640, 480, K(230, 640, 480), "equidistant", (0.02, -0.01, 0.003, -0.001))
PRISM = Camera(640, 480, RATIONAL.K, "rational_polynomial", (*RATIONAL.distortion, 2e-3, -1e-3, 1e-3, 5e-4))
TILTED = Camera(640, 480, RATIONAL.K, "rational_polynomial", (*PRISM.distortion, 0.02, -0.03))
CAMERAS = {"barrel": BARREL, "pincushion": PINCUSHION, "rational": RATIONAL, "fisheye": FISHEYE}
CAMERAS |= {"prism": PRISM, "tilted": TILTED}
by_name = pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)


def frame(image, camera=None):
    return Frame(0, image, camera)


def opencv_twin(camera, xy):
    """The same by OpenCV."""
    rays = np.concatenate([xy.reshape(-1, 2), np.ones((xy.size // 2, 1))], axis=1)[:, None]
    project_points = cv2.fisheye.projectPoints if camera.distortion_model == "equidistant" else cv2.projectPoints
    pixels, _ = project_points(rays, np.zeros(3), np.zeros(3), np.eye(3), np.array(camera.distortion))
    return pixels.reshape(xy.shape)


@by_name
def test_distortion_equals_opencv(camera):
    xy = np.random.default_rng(0).uniform(-0.8, 0.8, (200, 2))
    xy[0] = 0.0
    np.testing.assert_allclose(distort(camera, xy), opencv_twin(camera, xy), atol=1e-12)


@by_name
def test_virtual_pinhole_has_no_empty_border(camera):
    white = np.full((480, 640, 3), 255, np.uint8)
    pinhole = virtual_pinhole(camera)
    rays = pinhole_rays(pinhole.K, 640, 480)
    assert np.linalg.norm(rays[..., :2], axis=-1).max() <= distortion_limit(camera)
    pixels = project(camera, rays)
    assert (pixels >= -1e-6).all() and (pixels <= np.array([639, 479]) + 1e-6).all()
    image, used = Rectifier(640).rectify(frame(white, camera))
    assert (image == 255).all() and used.is_pinhole
    np.testing.assert_array_equal(used.K, pinhole.K)
    assert max(np.degrees(2 * np.arctan(320 / used.K[0, 0])), 0) <= MAX_VIEW_DEG + 0.1


@pytest.mark.parametrize("camera", [BARREL, PINCUSHION, RATIONAL], ids=["barrel", "pincushion", "rational"])
def test_view_is_as_wide_as_it_can_be(camera):
    pinhole = virtual_pinhole(camera)
    wider = pinhole.K.copy()
    wider[:2, :2] *= 0.995
    pixels = project(camera, pinhole_rays(wider, 640, 480))
    assert (pixels < 0).any() or (pixels > (639, 479)).any()


@by_name
@pytest.mark.parametrize("max_side", [640, 400])
def test_points_land_where_the_virtual_pinhole_says(camera, max_side):
    """Dots drawn through the distorted camera appear where the pinhole projects their points."""
    rng = np.random.default_rng(3)
    final = virtual_pinhole(camera.resized(max_side, max_side * 3 // 4))
    targets = np.stack(
        [g.ravel() for g in np.meshgrid(np.linspace(40, max_side - 40, 6), np.linspace(40, max_side * 0.75 - 40, 5))],
        axis=-1,
    )
    rays = np.column_stack([(targets - final.K[:2, 2]) / np.diag(final.K)[:2], np.ones(len(targets))])
    points = rays * rng.uniform(1, 9, (len(rays), 1))
    np.testing.assert_allclose(project(final, points), targets, atol=1e-9)
    u, v = np.meshgrid(np.arange(640), np.arange(480))
    image = np.zeros((480, 640))
    for x, y in project(camera, points):
        image += 255 * np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 2.0**2))
    rgb = np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
    got, pinhole = Rectifier(max_side).rectify(frame(rgb, camera))
    np.testing.assert_allclose(pinhole.K, final.K)
    window = np.arange(-9, 10)
    for x, y in targets:
        xs, ys = round(x) + window, round(y) + window
        patch = got[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1, 0].astype(float)
        centre = (patch.sum(0) @ xs / patch.sum(), patch.sum(1) @ ys / patch.sum())
        assert np.hypot(centre[0] - x, centre[1] - y) < 0.2


@by_name
def test_remap_equals_the_plain_resampling(camera):
    rng = np.random.default_rng(5)
    image = cv2.GaussianBlur(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8), (0, 0), 3)
    got, pinhole = Rectifier(640).rectify(frame(image, camera))
    xy = pinhole_rays(pinhole.K, 640, 480)[..., :2]
    source = opencv_twin(camera, xy) @ camera.K[:2, :2].T + camera.K[:2, 2]
    x0, y0 = np.clip(np.floor(source).astype(int), 0, (638, 478)).transpose(2, 0, 1)
    fx, fy = (source - np.stack([x0, y0], -1)).transpose(2, 0, 1)[..., None]
    img = image.astype(float)
    twin = (img[y0, x0] * (1 - fx) + img[y0, x0 + 1] * fx) * (1 - fy) + (
        img[y0 + 1, x0] * (1 - fx) + img[y0 + 1, x0 + 1] * fx
    ) * fy
    assert np.abs(got - twin).max() <= 2  # fixed-point weights of cv2.remap


mild = st.floats(-0.01, 0.01)
lenses = st.one_of(
    st.tuples(st.just("plumb_bob"), st.tuples(st.floats(-0.35, 0.25), st.floats(-0.1, 0.15), mild, mild)),
    st.tuples(st.just("equidistant"), st.tuples(st.floats(-0.05, 0.05), mild, mild, mild)),
)


@settings(deadline=None, max_examples=40)
@given(lenses, st.floats(0.4, 2.0), st.floats(-20, 20), st.booleans())
def test_any_ordinary_lens_gives_a_full_image(lens, focal, shift, portrait):
    width, height = (480, 640) if portrait else (640, 480)
    camera = Camera(width, height, K(focal * 640, width, height, (shift, -shift)), *lens)
    pinhole = virtual_pinhole(camera)
    pixels = project(camera, pinhole_rays(pinhole.K, width, height))
    assert (pixels >= -1e-6).all() and (pixels <= np.array([width - 1, height - 1]) + 1e-6).all()
    assert 0.5 < pinhole.K[0, 0] / camera.K[0, 0] < 2.0


def test_pinhole_is_only_resized():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    camera = Camera(640, 480, K(500, 640, 480), "plumb_bob", (0.0,) * 5)
    same, pinhole = Rectifier(640).rectify(frame(image, camera))
    assert same is image and pinhole.distortion_model == "none"
    half, pinhole = Rectifier(320).rectify(frame(image, camera))
    assert half.shape == (240, 320, 3) and (pinhole.width, pinhole.height) == (320, 240)
    np.testing.assert_allclose(half, image.reshape(240, 2, 320, 2, 3).mean((1, 3)), atol=1)
    np.testing.assert_allclose(pinhole.K, camera.resized(320, 240).K)
    small, none = Rectifier(1000).rectify(frame(image))
    assert small is image and none is None
    portrait, none = Rectifier(320).rectify(frame(np.ascontiguousarray(image.transpose(1, 0, 2))))
    assert portrait.shape == (320, 240, 3)


def test_maps_are_kept_per_camera():
    rectifier = Rectifier(640)
    image = np.zeros((480, 640, 3), np.uint8)
    first = rectifier.rectify(frame(image, BARREL))[1]
    assert (
        rectifier.rectify(frame(image, Camera(640, 480, BARREL.K.copy(), "plumb_bob", BARREL.distortion)))[1] is first
    )
    assert rectifier.rectify(frame(image, FISHEYE))[1] is not first


@pytest.mark.parametrize(
    "image, camera, words",
    [
        (np.zeros((240, 320, 3), np.uint8), BARREL, "320x240 but its camera info is for 640x480"),
        (np.zeros((480, 640), np.uint8), None, "RGB image"),
        (np.zeros((480, 640, 3), np.float32), None, "float32"),
        (np.zeros((0, 640, 3), np.uint8), None, "640x0"),
        (
            np.zeros((480, 640, 3), np.uint8),
            Camera(640, 480, K(60, 640, 480), "plumb_bob", (-8.0, 0, 0, 0)),
            "cannot be undone",
        ),
    ],
)
def test_bad_frames_are_refused_with_a_sentence(image, camera, words):
    with pytest.raises(InputError, match=words):
        Rectifier(640).rectify(frame(image, camera))
