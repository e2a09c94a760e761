from gecko_core.randomness import Stream, generator, seed_of, stream_generator, weighted_order


def test_draws_depend_on_their_names_alone():
    assert seed_of("write", 0, "a/1") == seed_of("write", "0", "a/1") == 781896193559111546
    assert generator("a", 1).integers(1 << 30) == generator("a", 1).integers(1 << 30)
    assert seed_of("a", "b") != seed_of("ab")


def test_numbered_draws_are_numpys():
    import numpy as np

    assert stream_generator(3, Stream.HOLD_OUT).random() == np.random.default_rng([3, 1]).random()


def test_heavier_names_come_earlier():
    first = [weighted_order({"heavy": 9.0, "light": 1.0, "none": 0.0}, "draw", n)[0] for n in range(500)]
    assert set(weighted_order({"heavy": 9.0, "none": 0.0}, "draw")) == {"heavy"}
    assert 0.85 < first.count("heavy") / 500 < 0.95
