"""How often a visitor may ask."""

import pytest
from ip2p.hub.web import limits
from ip2p.hub.web.limits import Rate


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_visitor_waits_until_the_minute_is_over() -> None:
    clock = Clock()
    rate = Rate(2, clock)
    assert rate.wait("one") == 0
    clock.now = 10
    assert rate.wait("one") == 0
    clock.now = 15
    assert rate.wait("one") == 45  # the first is a minute old then
    assert rate.wait("another") == 0
    clock.now = 60
    assert rate.wait("one") == 0
    assert rate.wait("one") == 10


def test_a_refused_request_does_not_count() -> None:
    clock = Clock()
    rate = Rate(1, clock)
    assert rate.wait("one") == 0
    for clock.now in range(1, 60, 10):
        assert rate.wait("one") > 0
    clock.now = 60
    assert rate.wait("one") == 0


def test_visitors_are_forgotten_the_longest_unseen_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VISITORS", 2)
    rate = Rate(1, Clock())
    assert [rate.wait(name) for name in ("a", "b", "c")] == [0, 0, 0]
    assert rate.wait("c") > 0 and rate.wait("b") > 0
    assert len(rate.seen) == 2 and rate.wait("a") == 0
