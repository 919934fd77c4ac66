"""Losses on embeddings against tensorflow-addons, against NumPy, and against numbers worked by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_keras import addons
from cnn_keras.errors import Fault
from cnn_keras.losses import embedding

# On the unit circle: identity 0 at 0° and 60°, identity 1 at 90° and 180°. Squared distances are 2 − 2·cos.
ANGLES = np.deg2rad([0.0, 60.0, 90.0, 180.0])
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype("float32")
LABELS = np.array([0, 0, 1, 1])
NEAR = 2 - 3**0.5  # 30° apart


def batch(seed, identities=5, each=4, dimension=6):
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(identities * each, dimension))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return np.repeat(np.arange(identities), each), rows.astype("float32")


def distances_of(embeddings):
    return np.square(embeddings[:, None].astype("float64") - embeddings[None]).sum(axis=-1)


def semi_hard(labels, embeddings, margin):
    """FaceNet's rule, pair by pair."""
    distances, terms = distances_of(embeddings), []
    for anchor in range(len(labels)):
        others = distances[anchor][labels != labels[anchor]]
        for positive in np.flatnonzero(labels == labels[anchor]):
            if positive != anchor:
                farther = others[others > distances[anchor, positive]]
                negative = farther.min() if len(farther) else others.max()
                terms.append(max(distances[anchor, positive] - negative + margin, 0))
    return np.mean(terms)


def hardest(labels, embeddings, margin):
    distances, terms = distances_of(embeddings), []
    for anchor in range(len(labels)):
        same = labels == labels[anchor]
        terms.append(max(distances[anchor][same].max() - distances[anchor][~same].min() + margin, 0))
    return np.mean(terms)


@pytest.mark.parametrize(("mining", "reference"), [("semi-hard", semi_hard), ("hard", hardest)])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), margin=st.sampled_from([0.1, 0.5, 1.0]))
def test_mined_triplets_are_those_of_a_loop_over_pairs(mining, reference, seed, margin):
    labels, embeddings = batch(seed)
    loss = embedding.triplet_loss(labels, embeddings, margin=margin, mining=mining)
    assert float(loss) == pytest.approx(reference(labels, embeddings, margin), abs=1e-4)


@pytest.mark.parametrize(("mining", "name"), [("semi-hard", "TripletSemiHardLoss"), ("hard", "TripletHardLoss")])
def test_mined_triplets_equal_those_of_tensorflow_addons(mining, name):
    labels, embeddings = batch(3)
    theirs = getattr(addons.losses, name)(margin=0.3, distance_metric="squared-L2")(labels, embeddings)
    assert float(embedding.triplet_loss(labels, embeddings, margin=0.3, mining=mining)) == pytest.approx(
        float(theirs), abs=1e-5
    )


def test_a_random_negative_is_any_of_another_identity_and_each_as_often():
    # Anchor and positive 60° apart, squared distance 1; negatives at 2 and 4 of one, NEAR and 3 of the other.
    draws = [
        float(embedding.triplet_loss(LABELS, CIRCLE, margin=0.5, mining="random", seed=seed)) for seed in range(300)
    ]
    by_hand = np.mean(
        [
            max(positive - negative + 0.5, 0)
            for positive, negatives in ((1, (2, 4)), (1, (NEAR, 3)), (2, (2, NEAR)), (2, (4, 3)))
            for negative in negatives
        ]
    )
    assert np.mean(draws) == pytest.approx(by_hand, abs=0.05)
    assert len(set(np.round(draws, 5))) > 2


def test_one_seed_draws_the_same_negatives_and_a_generator_others_each_time():
    labels, embeddings = batch(0)
    loss = [float(embedding.triplet_loss(labels, embeddings, mining="random", seed=5)) for _ in range(2)]
    assert loss[0] == loss[1]
    generator = keras.random.SeedGenerator(5)
    loss = [float(embedding.triplet_loss(labels, embeddings, mining="random", seed=generator)) for _ in range(2)]
    assert loss[0] != loss[1]


def test_an_unknown_mining_is_refused():
    with pytest.raises(Fault, match="mining must be one of random, semi-hard, hard, got 'soft'"):
        embedding.triplet_loss(LABELS, CIRCLE, mining="soft")


@pytest.mark.parametrize("mining", embedding.MININGS)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5], [7]], ids=["no pair", "one identity", "one picture"])
def test_a_batch_without_a_triplet_has_a_loss_and_a_gradient_of_zero(mining, labels):
    embeddings = tf.Variable(CIRCLE[: len(labels)])
    for loss_of in (embedding.triplet_loss, tf.function(embedding.triplet_loss)):
        with tf.GradientTape() as tape:
            loss = loss_of(np.array(labels), embeddings, margin=3.0, mining=mining, seed=1)
        assert float(loss) == 0
        np.testing.assert_array_equal(tape.gradient(loss, embeddings), np.zeros(embeddings.shape))


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [5, 5, 5, 5], [7]], ids=["no pair", "one identity", "one picture"])
def test_losses_over_pairs_count_a_kind_that_a_batch_lacks_as_zero(labels):
    embeddings = tf.Variable(CIRCLE[: len(labels)])
    same = np.equal.outer(labels, labels)
    apart = np.sqrt(distances_of(CIRCLE[: len(labels)]))
    pairs, others = same & ~np.eye(len(labels), dtype=bool), ~same
    terms = np.concatenate([apart[pairs] ** 2, np.maximum(1.5 - apart[others], 0) ** 2])
    logits = embeddings @ tf.transpose(embeddings)
    with tf.GradientTape(persistent=True) as tape:
        contrastive = embedding.contrastive_loss(np.array(labels), embeddings, margin=1.5)
        verification = embedding.verification_loss(
            np.array(labels), tf.matmul(embeddings, embeddings, transpose_b=True)
        )
    assert float(contrastive) == pytest.approx(terms.mean() / 2 if len(terms) else 0, abs=1e-4)
    crossed = np.where(same, np.log1p(np.exp(-logits)), np.log1p(np.exp(logits)))[pairs | others]
    assert float(verification) == pytest.approx(crossed.mean() / 2 if len(terms) else 0, rel=1e-4)
    for loss in (contrastive, verification):
        assert np.isfinite(tape.gradient(loss, embeddings)).all()


def test_contrastive_loss_is_the_mean_of_both_kinds_worked_by_hand():
    # Same pairs: d² = 1 and 2. Others at √2, 2, √NEAR and √3 with margin 1.5: (1.5 − d)² where d is below.
    others = [(1.5 - 2**0.5) ** 2, 0.0, (1.5 - NEAR**0.5) ** 2, 0.0]
    expected = (np.mean([1, 2]) + np.mean(others)) / 2
    assert float(embedding.contrastive_loss(LABELS, CIRCLE, margin=1.5)) == pytest.approx(expected, abs=1e-4)


def test_the_verification_loss_counts_both_kinds_of_pairs_the_same():
    logits = tf.where(LABELS[:, None] == LABELS[None], 2.0, -1.0)
    expected = (np.log1p(np.exp(-2)) + np.log1p(np.exp(-1))) / 2
    assert float(embedding.verification_loss(LABELS, logits)) == pytest.approx(expected, rel=1e-5)


def test_an_angular_margin_moves_the_own_identity_alone():
    layer = embedding.AngularMargin(2, margin=0.5, scale=10.0)
    layer.build([(None, 2), (None,)])
    layer.centres.assign([[2.0, 0.0], [0.0, 3.0]])  # the axes, of any length
    logits = np.asarray(layer([CIRCLE[:3], np.array([0, 0, 1])]))
    own = [np.cos(0.5), np.cos(np.pi / 3 + 0.5), np.cos(0.5)]
    other = [0.0, np.sin(np.pi / 3), 0.0]
    np.testing.assert_allclose(logits[[0, 1, 2], [0, 0, 1]], 10 * np.array(own), atol=0.02)
    np.testing.assert_allclose(logits[[0, 1, 2], [1, 1, 0]], 10 * np.array(other), atol=0.02)


def test_an_angular_margin_goes_on_falling_beyond_a_straight_angle():
    layer = embedding.AngularMargin(1, margin=0.5, scale=1.0)
    layer.build([(None, 2), (None,)])
    layer.centres.assign([[1.0], [0.0]])
    angles = np.linspace(0, np.pi, 40)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
    logits = np.asarray(layer([rows, np.zeros(40, int)]))[:, 0]
    assert (np.diff(logits) < 1e-3).all()


def test_figures_are_those_counted_by_hand():
    found = {name: float(value) for name, value in embedding.triplet_statistics(LABELS, CIRCLE, margin=0.5).items()}
    # Eight triplets (distances 1 against 2, 4, NEAR, 3; 2 against 2, NEAR, 4, 3): three do not keep the margin.
    assert found["active"] == pytest.approx(3 / 8)
    assert found["positive"] == pytest.approx(1.5, abs=1e-5)
    assert found["negative"] == pytest.approx((2 + 4 + NEAR + 3) / 4, abs=1e-5)
    assert found["spread"] == pytest.approx(1 - np.square(CIRCLE.mean(axis=0)).sum(), abs=1e-5)


def test_embeddings_that_are_all_the_same_have_no_spread_and_every_triplet_is_active():
    found = embedding.triplet_statistics(LABELS, np.tile(CIRCLE[:1], (4, 1)), margin=0.2)
    assert float(found["spread"]) == pytest.approx(0, abs=1e-6)
    assert float(found["active"]) == 1


def test_squared_distances_are_those_of_numpy_and_zero_on_the_diagonal():
    _, embeddings = batch(1)
    found = embedding.squared_distances(embeddings).numpy()
    np.testing.assert_allclose(found, distances_of(embeddings), atol=1e-5)
    assert (np.diag(found) == 0).all()


@pytest.mark.parametrize("mining", embedding.MININGS)
def test_every_triplet_loss_pulls_identities_apart(mining):
    keras.utils.set_random_seed(0)
    labels, rows = batch(2, dimension=8)
    variable = tf.Variable(rows)
    before = float(embedding.triplet_statistics(labels, tf.math.l2_normalize(variable, 1))["active"])
    for step in range(80):
        with tf.GradientTape() as tape:
            loss = embedding.triplet_loss(labels, tf.math.l2_normalize(variable, 1), mining=mining, seed=step)
        variable.assign_sub(0.5 * tape.gradient(loss, variable))
    after = float(embedding.triplet_statistics(labels, tf.math.l2_normalize(variable, 1))["active"])
    assert after < before / 2


@pytest.mark.parametrize("scale", [1.0, 16.0])
def test_the_prototypical_loss_is_the_cross_entropy_over_distances_to_means_without_the_picture_itself(scale):
    labels, embeddings = batch(3, identities=4, each=3)
    labels, embeddings = np.append(labels, 9), np.append(embeddings, [[1.0, 0, 0, 0, 0, 0]], axis=0).astype("float32")
    losses = []
    for place, label in enumerate(labels[:-1]):  # the last has no other picture of its own
        logits = {}
        for identity in np.unique(labels):
            members = [row for row in np.flatnonzero(labels == identity) if row != place]
            logits[identity] = -scale * np.square(embeddings[place] - embeddings[members].mean(axis=0)).sum()
        losses.append(np.log(sum(np.exp(value) for value in logits.values())) - logits[label])
    order = np.random.default_rng(0).permutation(len(labels))
    loss = embedding.prototypical_loss(tf.constant(labels[order]), tf.constant(embeddings[order]), scale=scale)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_prototypical_loss_of_single_pictures_is_zero_with_a_gradient_of_zero():
    variable = tf.Variable(CIRCLE)
    with tf.GradientTape() as tape:
        loss = embedding.prototypical_loss(tf.constant([0, 1, 2, 3]), variable)
    assert float(loss) == 0
    np.testing.assert_array_equal(tape.gradient(loss, variable), 0)
