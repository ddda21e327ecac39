"""A cache gives what the encoders give, and never what others gave."""

from pathlib import Path

import pytest
import torch
from finetune_data import encoder, examples, settings, write_pairs
from ip2p.training.finetune import cache
from ip2p.training.finetune.batches import Batch, Batches
from ip2p.training.finetune.cache import Cached, build
from ip2p.training.finetune.encode import Encoder
from ip2p.training.finetune.examples import Examples
from ip2p.training.finetune.material import Pictures
from ip2p.training.finetune.order import Order
from ip2p.training.finetune.settings import FinetuneSettings
from pairs_data import picture

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return examples(write_pairs(tmp_path_factory.mktemp("data") / "pairs.parquet", count=10))


@pytest.fixture(scope="module", params=[False, True], ids=["sd", "sdxl"])
def encodes(request: pytest.FixtureRequest) -> Encoder:
    return encoder(xl=request.param)


def first_batch(material: object, given: FinetuneSettings) -> Batch:
    order = Order(material.members, given.batch_size, given.seed)  # type: ignore[attr-defined]
    batches = Batches(material, order, given, DEVICE, scaling_factor=0.2, timesteps=1000)  # type: ignore[arg-type]
    return next(batches.of_process(0, 0, 1))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_batches_are_the_same_as_without(data: Examples, encodes: Encoder, tmp_path: Path) -> None:
    given = settings(cache=True, batch_size=4, flip=0.0, drop_text=0.3, drop_image=0.3)
    cached = first_batch(build(tmp_path, data, encodes, given), given)
    plain = first_batch(Pictures(data, encodes, given), given)
    for name, tensor in vars(plain).items():
        if tensor is None:
            assert getattr(cached, name) is None
        else:
            assert torch.allclose(getattr(cached, name), tensor, atol=4e-3), name  # the cache is in half precision


def test_a_cache_has_as_many_variants_as_asked_for(data: Examples, encodes: Encoder, tmp_path: Path) -> None:
    cached = build(tmp_path, data, encodes, settings(cache_variants=3, resize_max=48, flip=0.5))
    variants = [cached.pair(0, u).latents.mode for u in (0.0, 0.4, 0.9)]
    assert not torch.equal(variants[0], variants[1]) and not torch.equal(variants[1], variants[2])
    assert torch.equal(cached.pair(0, 0.34).latents.mode, variants[1])


def test_it_is_built_once_and_by_what_went_in(data: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ROWS", 8)
    made = encoder()
    build(tmp_path / "cache", data, made, settings())
    before = files(tmp_path / "cache")
    assert len([name for name in before if name.startswith("pictures")]) == 3
    with monkeypatch.context() as patch:
        patch.setattr(cache, "encode_rows", lambda *_: pytest.fail("encoded again"))
        patch.setattr(Encoder, "texts", lambda *_: pytest.fail("encoded again"))
        build(tmp_path / "cache", data, made, settings())
    assert files(tmp_path / "cache") == before

    other = encoder()
    with torch.no_grad():
        other.pipe.vae.quant_conv.bias.add_(0.1)
    assert not pictures_of(build(tmp_path / "cache", data, other, settings())) & before.keys()
    changed = examples(
        write_pairs(tmp_path / "new.parquet", 10, original_image=[picture(n, 64, 64) for n in range(20)])
    )
    assert not pictures_of(build(tmp_path / "cache", changed, made, settings())) & before.keys()
    assert not pictures_of(build(tmp_path / "cache", data, made, settings(resize_max=48))) & before.keys()


def pictures_of(cached: Cached) -> set[str]:
    """The names of a cache's files of pictures."""
    return {path.name for path in cached.files if path.name.startswith("pictures")}


def test_a_killed_build_goes_on(data: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "ROWS", 8)
    build(tmp_path / "whole", data, encoder(), settings())
    encoded, done = cache.encode_rows, []

    def dying(*arguments: object) -> object:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments[0])
        return encoded(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "encode_rows", dying)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "cut", data, encoder(), settings())
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "cut", data, encoder(), settings())  # the third file is the one that is left
    assert len(done) == 2
    done.clear()
    build(tmp_path / "cut", data, encoder(), settings())
    assert files(tmp_path / "cut") == files(tmp_path / "whole") and len(done) == 1


def test_what_cant_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    good = [picture(number, 64, 64) for number in range(20)]
    path = write_pairs(tmp_path / "p.parquet", 10, original_image=[b"none", *good[1:]], edited_image=[*good[:-1], None])
    cached = build(tmp_path / "cache", examples(path, held_out=0), encoder(), settings())
    assert set(cached.skipped) == {0, 19}
    assert "the picture before is not a picture" in cached.skipped[0]
    assert sorted(len(rows) for rows in cached.rows) == [1] * 2 + [2] * 8


def test_a_damaged_file_is_told(data: Examples, tmp_path: Path) -> None:
    build(tmp_path, data, encoder(), settings())
    [path] = tmp_path.glob("pictures-*")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"pictures-.* is damaged: remove it"):
        build(tmp_path, data, encoder(), settings())


def test_buckets_keep_their_shapes(tmp_path: Path) -> None:
    shapes = [(64, 64), (96, 48)] * 10
    given = {name: [picture(n, *size) for n, size in enumerate(shapes)] for name in ("original_image", "edited_image")}
    path = write_pairs(tmp_path / "p.parquet", 20, each=1, **given)
    wide = settings(resolution=192, resize_max=192, buckets=True)
    cached = build(tmp_path / "cache", examples(path, held_out=0), encoder(), wide)
    assert set(cached.members) == {(192, 192), (128, 288)}
    assert cached.pair(1).latents.mean.shape == (4, 32, 72)
    plain = Pictures(examples(path, held_out=0), encoder(), wide)
    assert {size: members for size, members in plain.members.items() if members} == cached.members


def test_a_place_that_cant_be_read_takes_its_neighbour(tmp_path: Path) -> None:
    good = [picture(number, 64, 64) for number in range(4)]
    path = write_pairs(tmp_path / "p.parquet", 4, each=1, original_image=[b"none", *good[1:]])
    material = Pictures(examples(path, held_out=0), encoder(), settings())
    batch = first_batch(material, settings(batch_size=4, drop_text=0.0, drop_image=0.0, drop_both=0.0))
    assert len(batch.latents) == 4 and len(batch.condition.unique(dim=0)) == 3
    assert list(material.problems) == ["row 0, the picture before is not a picture that Pillow can read"]
    path = write_pairs(tmp_path / "q.parquet", 4, each=1, original_image=[b"none"] * 4)
    with pytest.raises(ValueError, match="None of 2 examples in a row can be read"):
        first_batch(Pictures(examples(path, held_out=0), encoder(), settings()), settings())
