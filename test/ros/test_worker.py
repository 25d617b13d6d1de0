"""The worker's thread: a window that does not end holds up nobody for ever, and the device keeps one owner."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from spatial_fm_ros.core.types import Update
from spatial_fm_ros.nodes.worker import Worker


class Device:
    """Windows that last until they are let go."""

    def __init__(self) -> None:
        self.begun, self.let_go, self.at_work, self.most = threading.Event(), threading.Event(), 0, 0

    def step(self) -> Update | None:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.begun.set()
        assert self.let_go.wait(20)
        self.at_work -= 1
        return SimpleNamespace()  # type: ignore[return-value]


def test_a_window_that_hangs_is_left_and_the_next_turn_waits_for_it():
    device, announced, faults = Device(), [], []
    worker = Worker(device, announced.append, faults.append, lambda: True, lambda: False)  # type: ignore[arg-type]
    assert worker.stop()  # before it was started
    worker.start()
    worker.start()
    assert device.begun.wait(20) and not worker.stop(0.05)
    device.begun.clear()
    worker.start()
    assert not device.begun.wait(0.2)  # the device still has its first owner
    device.let_go.set()
    assert device.begun.wait(20) and worker.stop(20) and device.most == 1 and not faults
    assert len(announced) >= 1
    device.let_go.clear()
    device.begun.clear()
    announced.clear()
    worker.start()
    assert device.begun.wait(20) and not worker.stop(0.05)
    device.let_go.set()
    worker.start()
    assert worker.stop(20) and len(announced) <= 1  # what was left is not announced
