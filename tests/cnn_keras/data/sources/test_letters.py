"""Letters in typefaces: which there are, and how they are drawn."""

from collections import Counter

import numpy as np
import pytest

from cnn_keras.data.image_decoding import decode
from cnn_keras.data.sources import classification
from cnn_keras.data.sources import letters as letters_sources


@pytest.fixture(scope="module")
def letters():
    return letters_sources.letters()


def test_letters_are_of_five_alphabets_without_accents_and_without_doubles(letters):
    assert 300 < len(letters) == len(set(letters))
    assert set("AgQS") | set("дЖ") | set("Δχ") | set("Ժბ") <= set(letters)
    assert not {"é", "s", "А", "Α"} & set(letters)  # accented; S, only smaller; A in Cyrillic and in Greek


def test_no_two_letters_look_alike(letters):
    plain = next(file for file in letters_sources.typefaces() if file.name == letters_sources.PLAIN)
    pixels = np.stack([letters_sources.draw(letter, plain).ravel() for letter in letters]).astype(float)
    assert (np.corrcoef(pixels) - np.eye(len(letters))).max() < letters_sources.ALIKE


@pytest.mark.parametrize("letter", ["W", "ı", "д"])
def test_a_letter_stands_in_the_middle_and_its_longer_side_is_of_one_length(letter):
    for file in letters_sources.typefaces():
        picture = letters_sources.draw(letter, file)
        assert (picture.shape, picture.dtype) == ((28, 28, 1), np.uint8)
        rows, columns = (np.flatnonzero(picture[..., 0].any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        assert all(abs(inked[0] + inked[-1] - 27) <= 2 for inked in (rows, columns))


def test_the_source_has_a_dozen_typefaces_of_each_letter(letters):
    items = classification.items("letters")
    assert len({item.id for item in items}) == len(items)
    counts = Counter(item.label for item in items)
    assert len(counts) == len(letters)
    assert min(counts.values()) >= letters_sources.COMMON
    item = next(item for item in items if item.id == "greek small letter chi/DejaVuSerif.png")
    assert decode(item.read(), channels=1).shape == (28, 28, 1)
