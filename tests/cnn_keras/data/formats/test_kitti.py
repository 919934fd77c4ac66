"""KITTI's text files: fifteen columns, of which the box is the fifth to the eighth."""

import pytest

from cnn_keras.errors import Fault
from tests.cnn_keras.data.sources.test_detection import picture, put, read

CAR = "Car 0.00 1 -1.57 10.50 4.25 30.00 16.00 1.5 1.6 3.9 1.0 1.4 8.4 -1.5"
REGION = "DontCare -1 -1 -10 0 0 5 6 -1 -1 -1 -1000 -1000 -1000 -10"


@pytest.mark.parametrize(
    ("labels", "images"),
    [("training/label_2", "training/image_2"), ("train/labels", "train/images"), ("train/labels", "train/labels")],
)
def test_boxes_are_pixels_and_a_region_to_ignore_is_a_crowd_of_every_class(tmp_path, labels, images):
    put(tmp_path / images / "000001.png", picture())
    put(tmp_path / images / "000002.png", picture(shade=7))
    put(tmp_path / labels / "000001.txt", f"{CAR}\n\n{REGION}\nCar 1 2\n")
    put(tmp_path / labels / "000002.txt", f"{CAR.replace('Car', 'Van')} 0.9\n")
    put(tmp_path / "testing/image_2/000001.png", picture())
    first, second = read("kitti", tmp_path).items
    assert (first.id, first.read(), first.split) == (f"{images}/000001.png", picture(), "train")
    assert [(one.name, one.box, one.crowd) for one in first.objects] == [
        ("Car", (10.5, 4.25, 30, 16), False),
        ("Car", (0, 0, 5, 6), True),
        ("Van", (0, 0, 5, 6), True),
    ]
    assert [kind for kind, _ in first.troubles] == ["malformed annotation"]
    assert [one.name for one in second.objects] == ["Van"]


def test_a_folder_without_lines_of_kitti_is_refused(tmp_path):
    put(tmp_path / "labels/a.txt", "0 .5 .5 .5 .5\n")
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(Fault, match=r"data\.path must"):
            read("kitti", path)
