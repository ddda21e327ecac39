from itertools import chain

from ip2p.training.pairs.candidates import DrawSettings, PairTriplet, SeedGroup, draw_groups
from ip2p.training.pairs.render_settings import RenderSettings
from ip2p.training.pairs.trajectories import Row, branches, count_evaluations, packed
from ip2p.training.pairs.trajectories import units as units_of

TRIPLET = PairTriplet("a cat", "make it a dog", "a dog")


def test_a_target_is_under_prompt_to_prompt_while_p_is_above_its_steps_share():
    settings = RenderSettings(steps=11)
    group = branches(SeedGroup(0, 7.5, (0.1, 0.25, 0.9)), settings)
    assert group.ends == (1, 3, 9)  # 0.1 > 0 but not > 1/10; 0.25 > 2/10; 0.9 > 8/10
    assert group.targets(0) == [3] and group.injected(0) == [3]
    assert group.leaving(1) == [1] and group.targets(1) == [1, 3]
    assert group.targets(9) == [1, 2, 3] and group.injected(9) == []


def test_one_seed_a_candidate_costs_what_the_original_does():
    settings = RenderSettings(steps=100)
    groups = draw_groups(TRIPLET, DrawSettings(seeds=100, per_seed=1))
    assert count_evaluations(groups, settings) == 100 * 100 * 4


def test_candidates_of_a_seed_cost_less_together():
    settings = RenderSettings(steps=100)
    shared = count_evaluations(draw_groups(TRIPLET, DrawSettings(seeds=10, per_seed=10)), settings)
    assert 2.8 < 100 * 100 * 4 / shared < 3.1


def test_pictures_that_need_nothing_of_each_other_are_units_of_their_own():
    settings = RenderSettings(steps=11)
    group = branches(SeedGroup(0, 7.5, (0.1, 0.9)), settings)
    at_first = units_of(0, group, 0, settings)
    assert at_first == [[Row(0, 0, False), Row(0, 2, False), Row(0, 0, True), Row(0, 2, True)]]
    assert [len(unit) for unit in units_of(0, group, 5, settings)] == [4, 2]
    assert [len(unit) for unit in units_of(0, group, 9, settings)] == [2, 2, 2]
    full = RenderSettings(steps=11, method="full", cross_replace_steps=0.5)
    assert [len(unit) for unit in units_of(0, group, 5, full)] == [6]
    assert [len(unit) for unit in units_of(0, group, 10, full)] == [2, 2, 2]


def test_units_are_packed_in_order_and_never_cut():
    units = [[Row(g, p, h) for p in (0, 1) for h in (False, True)] for g in range(5)]
    batches = packed(units, 8)
    assert [len(batch) for batch in batches] == [8, 8, 4]
    assert [*chain(*batches)] == [*chain(*units)]
    assert [len(batch) for batch in packed(units, 2)] == [4] * 5


def test_what_is_drawn_follows_from_the_triplet_and_not_from_its_place():
    settings = DrawSettings(seeds=4, per_seed=3)
    groups = draw_groups(TRIPLET, settings)
    assert groups == draw_groups(PairTriplet("a cat", "make it a dog", "a dog", kind="replace"), settings)
    assert groups != draw_groups(PairTriplet("a cat", "turn it into a dog", "a dog"), settings)
    assert groups != draw_groups(TRIPLET, DrawSettings(seeds=4, per_seed=3, seed=1))
    assert groups == draw_groups(TRIPLET, DrawSettings(seeds=5, per_seed=3))[:4]
    assert len({group.seed for group in groups}) == 4


def test_ps_are_spread_over_their_range():
    settings = DrawSettings(seeds=2000, per_seed=4, p=(0.1, 0.9))
    groups = draw_groups(TRIPLET, settings)
    for group in groups:
        assert [int((p - 0.1) / 0.2) for p in group.ps] == [0, 1, 2, 3]
        assert 7.5 <= group.guidance_scale <= 15
    everything = [p for group in groups for p in group.ps]
    assert abs(sum(everything) / len(everything) - 0.5) < 0.01
