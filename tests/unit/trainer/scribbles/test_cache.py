import numpy as np
from biosegment_trainer.scribbles.cache import FeatureCache

IMAGE = np.zeros((2, 2), np.float32)


def features(kib):
    return np.zeros((kib, 256), np.float32)


def ask(cache, key, kib=4, image=IMAGE):
    """Whether it had to be made."""
    made = []

    def make():
        made.append(key)
        return features(kib)

    assert cache.get(key, image, make).shape == (kib, 256)
    return bool(made)


def test_the_least_recently_used_go_first():
    cache = FeatureCache(10 * 1024)
    assert ask(cache, "a")
    assert ask(cache, "b")
    assert not ask(cache, "a")
    assert ask(cache, "c")
    assert cache.size_bytes == 8 * 1024
    assert not ask(cache, "a")
    assert ask(cache, "b")


def test_what_is_too_large_is_made_each_time_and_displaces_nothing():
    cache = FeatureCache(10 * 1024)
    ask(cache, "a")
    assert ask(cache, "large", 11)
    assert ask(cache, "large", 11)
    assert not ask(cache, "a")


def test_a_name_that_was_given_to_another_image_is_not_believed():
    cache = FeatureCache(10 * 1024)
    ask(cache, "a")
    assert ask(cache, "a", image=IMAGE + 1)
    assert not ask(cache, "a", image=IMAGE + 1)
    assert cache.size_bytes == 4 * 1024
