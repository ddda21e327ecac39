"""The node that makes training data: what it saves is what `ip2p train` reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_graphs import node, scene
from comfy_host import Host, a_host  # noqa: F401 - a fixture
from ip2p.training.finetune.settings import DataSettings
from ip2p.training.finetune.sources import open_rows


def save(host: Host, **inputs: Any) -> int:
    given = {"before": scene(), "after": scene(3), "instruction": "make it so", "dataset": "mine", **inputs}
    return host.run({"1": node("Ip2pSaveExample", **given)})["1"][0]


def folder(host: Host) -> Path:
    return host.folder / "output" / "ip2p_datasets" / "mine"


def test_what_is_saved_can_be_trained_on(host: Host, tmp_path: Path) -> None:
    assert save(host, original_caption="a scene", edited_caption="another, with a comma") == 1
    assert save(host, instruction="and\nback", before=scene(3), after=scene()) == 2
    rows = list(open_rows(DataSettings(data=str(folder(host))), tmp_path / "imported"))
    assert [row["edit_prompt"] for row in rows] == ["make it so", "and back"]
    assert rows[0]["edited_prompt"] == "another, with a comma"
    pixels = (scene()[0].numpy() * 255).round()
    from datasets import Image

    assert np.array_equal(np.asarray(Image().decode_example(rows[0]["original_image"])), pixels)


def test_the_same_example_is_saved_once(host: Host) -> None:
    assert [save(host), save(host), save(host, instruction="another")] == [1, 1, 2]
    assert len(list((folder(host) / "pictures").iterdir())) == 2


def test_one_picture_before_goes_with_several_after(host: Host) -> None:
    assert save(host, after=torch.cat([scene(3), scene(4)])) == 2


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"instruction": "\n"}, "instruction is empty"),
        ({"dataset": "../outside"}, "can't name a dataset"),
        ({"dataset": ""}, "can't name a dataset"),
        ({"dataset": "a/b"}, "can't name a dataset"),
        ({"after": torch.zeros(1, 32, 64, 3)}, "64×64 and those after 64×32"),
        ({"before": torch.cat([scene()] * 2), "after": torch.cat([scene()] * 3)}, "2 pictures before"),
    ],
)
def test_bad_input_is_told_and_nothing_is_saved(host: Host, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        save(host, **inputs)
    assert not list((host.folder / "output").rglob("*.csv")) if (host.folder / "output").exists() else True


def test_another_file_is_not_written_to(host: Host) -> None:
    folder(host).mkdir(parents=True)
    (folder(host) / "examples.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not made by this node"):
        save(host)
