"""Which examples make up the batches, and what chance decides of each."""

from collections import Counter

import pytest
import torch
from finetune_data import settings
from ip2p.training.finetune.draws import draw_dropped, draw_noise
from ip2p.training.finetune.order import Order

SQUARE, WIDE = (64, 64), (48, 80)


def triplets(order: Order, numbers: range) -> list[int]:
    return [place.triplet for number in numbers for place in order.batch(number)]


def test_an_epoch_has_every_triplet_once_in_another_order_each_time() -> None:
    order = Order({SQUARE: range(12)}, batch_size=4, seed=0)
    epochs = [triplets(order, range(3 * epoch, 3 * epoch + 3)) for epoch in range(3)]
    assert all(sorted(each) == list(range(12)) for each in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert triplets(Order({SQUARE: range(12)}, 4, seed=1), range(3)) != epochs[0]


def test_any_batch_can_be_had_first() -> None:
    one, other = (Order({SQUARE: range(10), WIDE: range(10, 15)}, 4, seed=3) for _ in range(2))
    expected = [one.batch(number) for number in range(20)]
    assert [other.batch(number) for number in reversed(range(20))] == expected[::-1]


def test_a_batch_is_of_one_size_and_a_short_one_is_filled_up() -> None:
    order = Order({SQUARE: range(10), WIDE: range(10, 15), (32, 32): []}, batch_size=4, seed=0)
    assert order.batches_of_epoch == 3 + 2
    batches = [order.batch(number) for number in range(5)]
    assert all(len({place.size for place in batch}) == 1 and len(batch) == 4 for batch in batches)
    counts = Counter(place.triplet for batch in batches for place in batch)
    assert set(counts) == set(range(15)) and max(counts.values()) == 2
    assert all((place.triplet < 10) == (place.size == SQUARE) for batch in batches for place in batch)


def test_places_are_counted_through_and_processes_share_them_out() -> None:
    order = Order({SQUARE: range(12)}, batch_size=4, seed=0)
    assert [place.number for number in range(3) for place in order.batch(number)] == list(range(12))
    alone = order.batches(2, 1)
    apart = [order.batches(2 + process, 2) for process in range(2)]
    for _ in range(5):
        assert [next(alone), next(alone)] == [next(each) for each in apart]


def test_conditioning_dropout_is_what_was_asked_for() -> None:
    given = settings(drop_text=0.05, drop_image=0.1, drop_both=0.02)
    counts = Counter(draw_dropped(number, 0, given) for number in range(100_000))
    shares = {each: count / 100_000 for each, count in counts.items()}
    assert shares[True, False] == pytest.approx(0.05, abs=0.002)
    assert shares[False, True] == pytest.approx(0.1, abs=0.002)
    assert shares[True, True] == pytest.approx(0.02, abs=0.002)


def test_dropout_can_be_off() -> None:
    none = settings(drop_text=0.0, drop_image=0.0, drop_both=0.0)
    assert not any(any(draw_dropped(number, 0, none)) for number in range(1000))


def test_noise_belongs_to_a_place_whatever_stands_beside_it() -> None:
    sample, noise, timesteps = draw_noise([3, 900, 5], 7, (4, 8, 8), 1000)
    alone = draw_noise([900], 7, (4, 8, 8), 1000)
    assert torch.equal(sample[1], alone[0][0]) and torch.equal(noise[1], alone[1][0]) and timesteps[1] == alone[2][0]
    assert not torch.equal(draw_noise([900], 8, (4, 8, 8), 1000)[1], alone[1])
    _, many, steps = draw_noise(list(range(400)), 0, (4, 8, 8), 1000)
    assert abs(float(many.mean())) < 0.01 and abs(float(many.std()) - 1) < 0.01
    assert 0 <= steps.min() < 30 and 970 < steps.max() < 1000
