"""Both pictures of a pair are cropped alike, and never mirrored where the texts know left from right."""

import random
from io import BytesIO

import numpy as np
import pytest
from ip2p.training.finetune.crops import Crop, cropped, draw_crop, may_mirror, nearest, opened, sizes
from ip2p.training.finetune.examples import Example
from pairs_data import picture
from PIL import Image


def example(before: bytes | None = None, after: bytes | None = None, texts: tuple[str, ...] = ("", "", "")) -> Example:
    return Example("row 3", before or picture(0), after or picture(1), *texts)


def test_the_same_part_is_cut_of_both_pictures_whatever_their_sizes() -> None:
    small = Image.new("RGB", (40, 30))
    small.putpixel((10, 10), (255, 255, 255))
    large = small.resize((400, 300), Image.Resampling.NEAREST)
    crop = Crop(width=80, height=60, left=12, top=7, mirrored=True)
    one, other = cropped(small, crop, (32, 48)), cropped(large, crop, (32, 48))
    assert one.shape == other.shape == (3, 32, 48)
    assert one.flatten().argmax() == other.flatten().argmax() or (one - other).abs().mean() < 0.02
    brightest = [divmod(int(each[0].flatten().argmax()), 48) for each in (one, other)]
    assert abs(brightest[0][0] - brightest[1][0]) <= 1 and abs(brightest[0][1] - brightest[1][1]) <= 1


def test_a_picture_of_the_size_stays_as_it_is() -> None:
    image = Image.open(BytesIO(picture(0, 32, 32)))
    crop = draw_crop(random.Random(0), (32, 32), (32, 32), enlarged=1.0, mirror=0.0)
    assert crop == Crop(32, 32, 0, 0, False)
    pixels = (cropped(image, crop, (32, 32)) * 255).round().byte()
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.array(image))


def test_crops_cover_the_picture_at_sizes_up_to_the_largest() -> None:
    rng = random.Random(0)
    crops = [draw_crop(rng, (300, 400), (256, 256), enlarged=288 / 256, mirror=0.5) for _ in range(500)]
    assert all(256 <= crop.height <= 288 for crop in crops)
    assert min(crop.height for crop in crops) < 260 and max(crop.height for crop in crops) > 284
    assert all(abs(crop.width / crop.height - 4 / 3) < 0.01 for crop in crops)
    assert all(0 <= crop.left <= crop.width - 256 and 0 <= crop.top <= crop.height - 256 for crop in crops)
    assert 0.4 < sum(crop.mirrored for crop in crops) / 500 < 0.6


@pytest.mark.parametrize(
    ("texts", "mirrored"),
    [
        (("make it winter", "a house", "a house in winter"), True),
        (("turn the left house blue", "", ""), False),
        (("make it winter", "a house at the top right", "a house"), False),
        (("make it winter", "a house", "A tree, RIGHTMOST"), False),
        (("make the sky brighter, all right?", "", ""), False),
        (("leave the rightful king", "a copyright sign", "bright"), True),
    ],
)
def test_texts_that_know_left_from_right_forbid_the_mirror(texts: tuple[str, ...], mirrored: bool) -> None:
    assert may_mirror(example(texts=texts)) is mirrored


def test_buckets_are_of_about_one_area_and_take_the_nearest_aspect() -> None:
    known = sizes(512, buckets=True)
    assert (512, 512) in known and len(known) == len(set(known)) > 5
    assert all(height % 32 == width % 32 == 0 for height, width in known)
    assert all(0.95 < height * width / 512**2 < 1.05 for height, width in known)
    assert nearest((1080, 1920), known)[0] < nearest((1920, 1080), known)[0]
    assert nearest((700, 710), known) == (512, 512)
    assert sizes(256, buckets=False) == [(256, 256)]


def test_pairs_that_cant_be_read_are_told_by_name() -> None:
    with pytest.raises(ValueError, match="row 3, the picture after"):
        opened(example(after=b"no picture"))
    with pytest.raises(ValueError, match=r"row 3 is 32×32 before and 64×32 after, not of one shape"):
        opened(example(after=picture(1, width=64)))
