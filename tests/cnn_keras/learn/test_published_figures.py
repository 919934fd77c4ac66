"""What the literature prints, against what our networks count."""

import pytest

from cnn_keras import models
from cnn_keras.learn import model_profile, published_figures
from cnn_keras.learn.published_figures import agrees
from tests.cnn_keras.models.test_models import TABLE

PRINTED = [
    pytest.param(name, figure, id=f"{name}-{figure.printed}-{figure.source}")
    for name in published_figures.FIGURES
    for figure in published_figures.figures(name)
]


def ours(name, quantity):
    """The count that `test_models` holds the network itself to."""
    counts = TABLE[name]
    return {"parameters": counts.total or counts.trainable}.get(quantity) or getattr(counts, quantity)


@pytest.mark.parametrize(("name", "figure"), PRINTED)
def test_ours_agrees_with_what_is_printed_unless_it_is_another_network(name, figure):
    assert agrees(ours(name, figure.quantity), figure.printed) == (not figure.differs)


def test_figures_are_of_networks_that_exist():
    assert set(published_figures.FIGURES) <= set(models.catalogue())


def test_a_network_of_which_nobody_prints_a_figure_has_none():
    assert published_figures.figures("introductory.two_conv") == ()


@pytest.mark.parametrize(
    ("count", "printed", "same"),
    [
        (60_965_224, "60 M", True),  # cut off
        (7_570_194_432, "7.6 G", True),  # rounded
        (61_000_000, "60 M", False),
        (59_000_000, "60 M", False),
        (7_700_000_000, "7.6 G", False),
        (138_357_544, "138,357,544", True),
        (138_357_545, "138,357,544", False),
        (138_357_543, "138,357,544", False),
        (1_498_376_192, "1.50 G", True),
        (1_582_671_872, "1.5 G", True),
        (1_582_671_872, "1.50 G", False),  # one more printed digit tells them apart
    ],
)
def test_a_count_agrees_to_the_printed_digits(count, printed, same):
    assert agrees(count, printed) is same


def test_the_table_of_a_well_known_lecture_is_not_that_of_lenet5():
    """On a colour image; the lecture's slides print 208, 48,001, 10,081 and 841."""
    rows = model_profile.rows(models.build("lenet.lenet5_modern", input_shape=(32, 32, 3)))
    parameters = {row.name: row.parameters for row in rows}
    assert [parameters[name] for name in ("c1", "c5", "f6", "logits")] == [456, 48_120, 10_164, 850]
