"""Films of cut-outs: their truth beside their pixels."""

import numpy as np

from cnn_keras.data.sources.synthetic.films import film


def test_a_frame_differs_from_the_background_only_where_its_boxes_are():
    shown = film(frames=60, seed=4)
    for number in range(0, 60, 7):
        pixels, truth = shown.frame(number)
        changed = (pixels != shown.background).any(axis=-1)
        inside = np.zeros_like(changed)
        for left, top, right, bottom in truth.boxes.astype(int):
            inside[top:bottom, left:right] = True
            assert changed[top:bottom, left:right].any()
        assert not changed[~inside].any()


def test_things_cross_from_side_to_side_and_hide_each_other():
    shown = film(seed=2)
    truths = [shown.frame(number)[1] for number in range(shown.frames)]
    assert all(((truth.visible > 0) & (truth.visible <= 1)).all() for truth in truths)
    assert any((truth.visible < 0.5).any() for truth in truths)
    middles = {}
    for truth in truths:
        for thing, box in zip(truth.ids, truth.boxes, strict=True):
            middles.setdefault(int(thing), []).append((box[0] + box[2]) / 2)
    assert len(middles) >= 8
    for places in middles.values():  # each goes one way
        assert (np.diff(places) >= -0.5).all() or (np.diff(places) <= 0.5).all()


def test_a_film_is_a_function_of_its_seed():
    first, again, other = film(seed=0), film(seed=0), film(seed=1)
    assert (first.frame(50)[0] == again.frame(50)[0]).all()
    assert (first.frame(50)[0] != other.frame(50)[0]).any()
