"""Which of two senders on one topic is listened to."""

from spatial_fm_ros.core.intake.one_kind import OneKind, two_frames, two_sizes


def test_the_first_is_kept_while_it_comes() -> None:
    kinds = OneKind[str]()
    admitted = [kinds.admits("ab"[i % 2], 0.1 * i) for i in range(100)]
    assert admitted == [True, False] * 50
    # Slow ones take turns as well.
    assert [kinds.admits("ab"[i % 2], 10.0 + 20.0 * i) for i in range(10)] == [True, False] * 5


def test_another_is_believed_when_the_first_has_gone() -> None:
    kinds = OneKind[tuple[int, int]]()
    assert kinds.admits((640, 480), 0.0)
    admitted = [kinds.admits((320, 240), 0.5 * i) for i in range(1, 21)]
    assert not any(admitted[:9]) and all(admitted[9:])
    assert kinds.kept == (320, 240) and not kinds.admits((640, 480), 10.5)


def test_the_words_name_both() -> None:
    assert two_frames("/image", "a", "b") == (
        "Images of '/image' come in two frames ('a' and 'b'); those of 'b' are left out. "
        "Give each camera its own topic."
    )
    assert "two sizes (640x480 and 320x240); those of 320x240 are left out" in two_sizes("i", (640, 480), (320, 240))
