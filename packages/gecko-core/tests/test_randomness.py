from gecko_core.randomness import Stream, generator, seed_of, seeded, set_generator, stream_generator, weighted_order


def test_draws_depend_on_their_names_alone():
    assert seed_of("write", 0, "a/1") == seed_of("write", "0", "a/1") == 781896193559111546
    assert generator("a", 1).integers(1 << 30) == generator("a", 1).integers(1 << 30)
    assert seed_of("a", "b") != seed_of("ab")


def test_numbered_draws_are_numpys():
    import numpy as np

    assert seeded(3).random() == np.random.default_rng(3).random()
    assert stream_generator(3, Stream.HOLD_OUT).random() == np.random.default_rng([3, 1]).random()


def test_heavier_names_come_earlier():
    first = [weighted_order({"heavy": 9.0, "light": 1.0, "none": 0.0}, "draw", n)[0] for n in range(500)]
    assert set(weighted_order({"heavy": 9.0, "none": 0.0}, "draw")) == {"heavy"}
    assert 0.85 < first.count("heavy") / 500 < 0.95


def test_the_draws_of_a_mixture_are_those_of_version_0_1():
    import hashlib

    import numpy as np

    streams = {"rows": Stream.MIXTURE_ROWS, "schedule": Stream.MIXTURE_SCHEDULE, "remainder": Stream.MIXTURE_REMAINDER}
    for word, stream in streams.items():
        before = np.random.default_rng([7, int.from_bytes(word.encode(), "big") % 2**63, 2, 5])
        assert stream_generator(7, stream, 2, 5).random(4).tolist() == before.random(4).tolist()
    before = np.random.default_rng([7, int(hashlib.sha256(b"nli").hexdigest()[:8], 16), 11])
    assert set_generator(7, "nli", 11).random(4).tolist() == before.random(4).tolist()
