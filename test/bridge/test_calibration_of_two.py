"""Two cameras that send their CameraInfo on one topic."""

import numpy as np

from spatial_fm_ros.bridge.calibration import Calibration


def test_an_image_gets_the_calibration_of_its_own_frame(maker) -> None:
    """Also where its own has another stamp, and the other camera's came last, at the very stamp of the image."""
    calibration = Calibration(True, 5.0, False)

    def info(frame: str, focal: float, sec: int) -> None:
        K = [focal, 0, 32, 0, focal, 24, 0, 0, 1]
        header = {"frame_id": frame, "stamp": {"sec": sec}}
        P = np.column_stack((np.reshape(K, (3, 3)), np.zeros(3))).reshape(-1)
        calibration.add(maker("sensor_msgs/CameraInfo", header=header, width=64, height=48, k=K, p=P))

    info("left", 50.0, 1)
    info("right", 70.0, 1)
    info("right", 70.0, 2)
    for frame, focal in (("left", 50.0), ("right", 70.0)):
        for stamp in (1, 2, 3):
            assert calibration.camera_for(stamp * 10**9, (64, 48), frame).K[0, 0] == focal
    calibration.reset()
    assert calibration.camera_for(4 * 10**9, (64, 48), "left").K[0, 0] == 50.0
    # Of a frame that no CameraInfo has, the newest is taken, as before.
    assert calibration.camera_for(2 * 10**9, (64, 48), "third").K[0, 0] == 70.0
