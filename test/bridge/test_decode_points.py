"""Cloud decoding: any layout, a plain per-point twin as oracle, refusals, fuzzing."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatial_fm_ros.bridge.decode import decode_points
from spatial_fm_ros.bridge.point_times import decode_times
from spatial_fm_ros.core.errors import InputError

CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}
RNG = np.random.default_rng(1)
XYZ = [("x", 7), ("y", 7), ("z", 7)]


def cloud(maker, layout, rows, height=1, big=False, gap=0, row_padding=0, stamp=(100, 0), **change):
    """Pack `rows` (tuples in the layout's order) point by point with struct; `gap` bytes before each field."""
    fields, offset = [], 0
    for name, datatype in layout:
        offset += gap
        fields.append({"name": name, "offset": offset, "datatype": datatype, "count": 1})
        offset += struct.calcsize(CODES[datatype])
    point_step = offset + gap
    width = len(rows) // height
    data = bytearray()
    for index, row in enumerate(rows):
        point = bytearray(b"\xab" * point_step)
        for field, value in zip(fields, row, strict=True):
            struct.pack_into((">" if big else "<") + CODES[field["datatype"]], point, field["offset"], value)
        data += point
        if (index + 1) % width == 0:
            data += b"\xcd" * row_padding
    message = {
        "header": {"stamp": {"sec": stamp[0], "nanosec": stamp[1]}, "frame_id": "velodyne"},
        "height": height,
        "width": width,
        "fields": fields,
        "is_bigendian": big,
        "point_step": point_step,
        "row_step": width * point_step + row_padding,
        "data": bytes(data),
        "is_dense": True,
    }
    return maker("sensor_msgs/PointCloud2", **(message | change))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("padding", [0, 7])
def test_any_layout(maker, big, gap, padding):
    layout = [("ring", 4), ("z", 8), ("intensity", 2), ("x", 7), ("other", 6), ("y", 7), ("time", 7)]
    rows = [(i % 4, 0.5 + i, 10 * i, 1.0 + i, 7, -2.0 - i, 0.001 * i) for i in range(12)]
    scan = decode_points(cloud(maker, layout, rows, height=3, big=big, gap=gap, row_padding=padding))
    want = np.array([(r[3], r[5], r[1]) for r in rows], np.float32)
    np.testing.assert_array_equal(scan.points, want)
    np.testing.assert_array_equal(scan.ring, [r[0] for r in rows])
    np.testing.assert_array_equal(scan.intensity, [r[2] for r in rows])
    assert scan.point_times_ns is not None
    np.testing.assert_allclose(scan.point_times_ns, [1e6 * i for i in range(12)], atol=100)
    assert scan.points.dtype == np.float32 and scan.stamp_ns == 100_000_000_000 and scan.frame_id == "velodyne"


def test_no_returns_are_dropped_with_their_columns(maker):
    nan, inf = float("nan"), float("inf")
    rows = [(1, 2, 3, 0), (nan, 0, 1, 1), (0, inf, 1, 2), (0, 0, 0, 3), (4, 5, 6, 4)]
    scan = decode_points(cloud(maker, [*XYZ, ("ring", 4)], rows))
    np.testing.assert_array_equal(scan.points, [(1, 2, 3), (4, 5, 6)])
    np.testing.assert_array_equal(scan.ring, [0, 4])
    assert scan.intensity is None and scan.point_times_ns is None


def test_empty_cloud_is_an_empty_scan(maker):
    assert decode_points(cloud(maker, XYZ, [])).points.shape == (0, 3)


@pytest.mark.parametrize(
    ("field", "values", "want_ns"),
    [
        (("t", 6), [0, 50_000_000], [0, 50_000_000]),  # nanoseconds after the stamp
        (("time", 7), [-0.125, 0.0], [-125_000_000, 0]),  # seconds, stamp at the sweep's end
        (("timestamp", 8), [1.7e9 + 0.25, 1.7e9 + 0.5], [0, 250_000_000]),  # absolute seconds
        (("timestamp", 8), [1.70000000025e18, 1.7000000005e18], [0, 250_000_000]),  # absolute nanoseconds
        (("timestamp", 8), [5e8, 5e8 + 0.1], None),  # another clock
        (("time", 7), [0.0, float("nan")], None),
        (("offset_time", 6), [0, 100_000], [0, 100_000_000]),  # microseconds, by the sweep's length
        (("time", 7), [0.0, 99.5], [0, 99_500_000]),  # milliseconds
        (("t", 4), [0, 50], [0, 50_000_000]),  # milliseconds in 16 bits
        (("timestamp", 7), [0.0, 100_000.0], [0, 100_000_000]),  # microseconds in a float
        (("time_us", 6), [0, 900], [0, 900_000]),  # a part of a sweep, but the name tells
        (("timeOffsetNs", 6), [0, 900], [0, 900]),
        (("time_stamp", 8), [1_700_000_000_250.0, 1_700_000_000_350.0], [0, 100_000_000]),  # absolute milliseconds
        (("timestamp", 7), [1.7e9, 1.7e9 + 128], None),  # a float cannot hold the epoch
        (("time", 7), [0.0, 0.0], None),  # not filled
        (("time", 7), [0.0, 2.0], None),  # no sweep lasts 2 s, nor 2 ms in milliseconds
        (("t", 6), [0, 1_300_000], [0, 1_300_000]),  # a packet's cloud
    ],
)
def test_point_times(maker, field, values, want_ns):
    rows = [(1, 2, 3, value) for value in values]
    scan = decode_points(cloud(maker, [*XYZ, field], rows, stamp=(1_700_000_000, 250_000_000)))
    assert bool(scan.remark) == (want_ns is None)
    if want_ns is None:
        assert scan.point_times_ns is None
    else:
        assert scan.point_times_ns is not None and scan.point_times_ns.dtype == np.int64
        np.testing.assert_allclose(scan.point_times_ns, want_ns, atol=500)


def test_times_on_a_clock_that_began_at_zero_are_absolute_where_that_is_nearer(maker):
    after = [0, 100_000_000]
    for times, want in (([5.0, 5.1], after), ([0.0, 0.1], after), ([4.9, 5.0], [-100_000_000, 0])):
        scan = decode_points(cloud(maker, [*XYZ, ("timestamp", 8)], [(1, 2, 3, t) for t in times], stamp=(5, 0)))
        np.testing.assert_allclose(scan.point_times_ns, want, atol=100)


def test_the_first_field_of_times_that_can_be_used_counts(maker):
    layout = [*XYZ, ("gps_time", 8), ("t", 6)]
    scan = decode_points(cloud(maker, layout, [(1, 2, 3, 4e5, 0), (1, 2, 4, 4e5 + 0.1, 50_000_000)]))
    np.testing.assert_array_equal(scan.point_times_ns, [0, 50_000_000])
    assert not scan.remark


@settings(max_examples=200, deadline=None)
@given(
    unit=st.sampled_from([1, 1_000, 1_000_000, 1_000_000_000]),
    sweep_ms=st.integers(20, 500),
    first_ms=st.integers(-500, 20),
    absolute=st.booleans(),
    integers=st.booleans(),
)
def test_any_unit_is_found_from_the_sweeps_length(unit, sweep_ms, first_ms, absolute, integers):
    stamp = 1_700_000_000_123_456_789
    want = np.linspace(first_ms, first_ms + sweep_ms, 50).round().astype(np.int64) * 1_000_000
    # What a sensor's type can hold: whole seconds are none, and a double rounds nanoseconds of the epoch.
    if integers and unit == 1_000_000_000:
        return
    values = (want + stamp * absolute) // unit if integers else (want / unit + (stamp * absolute) / unit)
    found = decode_times(np.asarray(values, np.int64 if integers else np.float64), "t", stamp)
    np.testing.assert_allclose(found.after_stamp_ns, want, atol=max(unit if integers else 0, 1_000))


@pytest.mark.parametrize("row_step", [0, 4, 48, 192])
def test_every_custom_of_row_step_in_organised_clouds(maker, row_step):
    rows = [(1 + i, 2, 3) for i in range(16)]
    scan = decode_points(cloud(maker, XYZ, rows, height=4, row_step=row_step))
    np.testing.assert_array_equal(scan.points[:, 0], np.arange(1, 17))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": b"\0" * 23}, "Truncated cloud"),
        ({"data": b"\0" * 25}, "Over-long cloud"),
        ({"row_step": 11}, "row_step 11 is shorter"),
        ({"point_step": 8}, "does not fit into point_step"),
        ({"point_step": 0}, "does not fit into point_step"),
        ({"width": 0}, "expected none"),
        ({"fields": []}, "missing x, y, z, got none"),
        (
            {"fields": [{"name": "x", "datatype": 7}, {"name": "rgb", "datatype": 7}]},
            "missing y, z, got x, rgb",
        ),
        (
            {"fields": [{"name": n, "offset": 4 * i, "datatype": 9} for i, n in enumerate("xyz")]},
            "unknown datatype 9",
        ),
        ({"header": {"stamp": {"sec": 1, "nanosec": 1_000_000_000}}}, "nanoseconds"),
    ],
)
def test_bad_clouds_are_refused(maker, change, words):
    msg = cloud(maker, XYZ, [(1, 2, 3), (4, 5, 6)], **change)
    with pytest.raises(InputError, match=words):
        decode_points(msg)


@settings(max_examples=200, deadline=None)
@given(
    names=st.lists(st.sampled_from(["x", "y", "z", "intensity", "ring", "time", "t", "timestamp", "q"]), max_size=9),
    offsets=st.lists(st.integers(0, 40) | st.integers(0, 2**32 - 1), min_size=9, max_size=9),
    datatypes=st.lists(st.integers(0, 10), min_size=9, max_size=9),
    sizes=st.tuples(*[st.integers(0, 60) | st.integers(0, 2**32 - 1)] * 4),
    big=st.booleans(),
    data=st.binary(max_size=2000),
)
def test_fuzzed_clouds_give_points_or_a_sentence(maker, names, offsets, datatypes, sizes, big, data):
    fields = [
        {"name": n, "offset": o, "datatype": d, "count": 1} for n, o, d in zip(names, offsets, datatypes, strict=False)
    ]
    width, height, point_step, row_step = sizes
    msg = maker(
        "sensor_msgs/PointCloud2",
        width=width,
        height=height,
        point_step=point_step,
        row_step=row_step,
        fields=fields,
        is_bigendian=big,
        data=data,
    )
    try:
        scan = decode_points(msg)
    except InputError:
        return
    assert scan.points.ndim == 2 and scan.points.shape[1] == 3 and np.isfinite(scan.points).all()


@settings(max_examples=100, deadline=None)
@given(
    order=st.permutations(["x", "y", "z", "intensity", "ring", "t"]),
    datatypes=st.lists(st.integers(1, 8), min_size=6, max_size=6),
    big=st.booleans(),
    gap=st.integers(0, 4),
    points=st.lists(st.lists(st.integers(0, 100), min_size=6, max_size=6), max_size=6),
)
def test_any_order_and_type_equals_the_packed_values(maker, order, datatypes, big, gap, points):
    layout = list(zip(order, datatypes, strict=True))
    scan = decode_points(cloud(maker, layout, [tuple(p) for p in points], big=big, gap=gap))
    column = {name: [p[i] for p in points] for i, name in enumerate(order)}
    keep = [i for i in range(len(points)) if any(column[a][i] for a in "xyz")]
    want = np.array([[column[a][i] for a in "xyz"] for i in keep], np.float32).reshape(-1, 3)
    np.testing.assert_array_equal(scan.points, want)
    assert scan.ring is not None and scan.intensity is not None
    np.testing.assert_array_equal(scan.ring, [column["ring"][i] for i in keep])
    np.testing.assert_array_equal(scan.intensity, [column["intensity"][i] for i in keep])
