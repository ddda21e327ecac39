"""The page under more visitors than it takes, and hostile ones."""

import asyncio
import io
from collections.abc import Iterator

import numpy as np
import pytest
from ip2p.training.shapes.oracle import shows
from PIL import Image
from web_server import Served, serve
from web_visitor import EDITS, PoliteError, Visitor, taken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("web") / "log", "--queue", "2", "--per-minute", "5") as page:
        yield page


async def opened(page: Served, numbers: range) -> list[Visitor]:
    visitors = [Visitor(page.address, number) for number in numbers]
    for visitor in visitors:
        await visitor.open()
    return visitors


def test_who_finds_the_queue_full_is_told_and_all_others_get_their_own_edit(page: Served) -> None:
    async def crowd() -> list[bytes | BaseException | None]:
        edits = [visitor.edit(number) for number, visitor in enumerate(await opened(page, range(len(EDITS))))]
        return await asyncio.gather(*edits, return_exceptions=True)

    results = asyncio.run(crowd())
    assert all(isinstance(each, bytes | PoliteError) for each in results)
    assert any(isinstance(each, PoliteError) for each in results)
    made = [(number, each) for number, each in enumerate(results) if isinstance(each, bytes)]
    assert len(made) >= 2
    pictures = [(number, np.asarray(Image.open(io.BytesIO(each)).convert("RGB"))) for number, each in made]
    assert all(shows(picture, EDITS[number].target) for number, picture in pictures)


def test_who_asks_too_often_waits(page: Served) -> None:
    async def eager() -> int:
        [visitor] = await opened(page, range(100, 101))
        for count in range(6):
            try:
                await visitor.edit(0)
            except PoliteError:
                return count
        return 6

    assert asyncio.run(eager()) == 5


def test_hostile_requests_are_refused(page: Served) -> None:
    assert not [name for name, is_taken in asyncio.run(taken(page.address)).items() if is_taken]


def test_who_leaves_stops_the_edit(page: Served) -> None:
    async def leave() -> None:
        one, two = await opened(page, range(200, 202))
        assert await one.edit(0, leaves=True) is None
        await one.client.aclose()
        await two.edit(1)

    asyncio.run(leave())
