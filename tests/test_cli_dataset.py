"""`ip2p dataset instructions` and `show`: from captions to a Parquet file of triplets, and going on after a stop."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_runner import Ip2p, Result
from ip2p.training.pairs.run_folder import claimed
from ip2p.training.shapes.edits import KINDS
from openai_faults import Faults
from openai_server import serving

pytest_plugins = ["cli_fixtures"]

COLUMNS = [
    *("original_prompt", "edit_prompt", "edited_prompt", "kind", "caption_id", "model", "settings", "inverse_prompt"),
]
PLACES = ("Oslo", "Lisbon", "Kyoto", "Quito", "Accra", "Hanoi", "Riga", "Samarkand", "Cusco", "Tromsø", "Bath", "Nara")
Make = Callable[..., Result]


@pytest.fixture
def make(ip2p: Ip2p, folder: Path) -> Make:
    """Runs `ip2p dataset instructions` with a hosted model on a few captions."""
    lines = [f"{thing} in the old town of {place}" for place in PLACES for thing in ("A tall ship", "Two red foxes")]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(url: str, *arguments: object) -> Result:
        hosted = ("--model", "tiny", "--base-url", url, "--captions", "captions.txt", "--backoff", "0.001")
        return ip2p("dataset", "instructions", *hosted, "-o", "made", *arguments)

    return run


def rows(folder: str = "made") -> list[dict[str, str]]:
    return pq.read_table(Path(folder) / "triplets.parquet").to_pylist()


def test_shapes_triplets_are_right_by_construction(ip2p: Ip2p) -> None:
    result = ip2p("dataset", "instructions", "--backend", "shapes", "--num-captions", 200, "-o", "shapes")
    assert result.code == 0
    made = rows("shapes")
    assert list(made[0]) == COLUMNS and len(made) > 150
    assert {row["kind"] for row in made} == set(KINDS)
    assert all(row["original_prompt"] != row["edited_prompt"] for row in made)
    again = ip2p("dataset", "instructions", "--backend", "shapes", "--num-captions", 200, "-o", "again")
    assert again.code == 0 and rows("again") == made


def test_a_hosted_models_answers_become_triplets(make: Make) -> None:
    with serving() as service:
        result = make(service.url)
    assert result.code == 0, result.err
    made = rows()
    assert len(made) == 24 and list(made[0]) == COLUMNS
    assert {row["model"] for row in made} == {"tiny"}
    assert len({row["settings"] for row in made}) == 1


def test_bad_answers_are_asked_for_again_and_counted(make: Make) -> None:
    with serving(Faults(malformed=0.3, truncated=0.2)) as service:
        assert make(service.url).code == 0
        asked = sum(service.asked.values())
    told = json.loads(Path("made/report.json").read_text())["answers"]
    assert told["bad"]["malformed"] and told["bad"]["truncated"]
    assert asked == 24 + sum(told["bad"].values()) - told["given_up"]
    assert sum(told["attempts"].values()) + told["given_up"] == 24
    assert "malformed" in Path("made/report.md").read_text()


def test_started_again_it_asks_for_nothing_that_it_has(make: Make) -> None:
    with serving(Faults(malformed=0.3)) as service:
        make(service.url, "--max-requests", 10)
        assert sum(service.asked.values()) == 10
        make(service.url)
        repeated = service.counts()["repeated"]
        resumed = rows()
    with serving(Faults(malformed=0.3)) as service:
        make(service.url, "-o", "whole")
    assert repeated == 0
    assert resumed == rows("whole")


def test_captions_that_were_changed_are_sampled_again(make: Make) -> None:
    with serving() as service:
        make(service.url)
        with Path("captions.txt").open("a", encoding="utf-8") as file:
            file.write("A grey heron by the river Neva\n")
        make(service.url)
        assert service.counts()["repeated"] == 0
    assert len(rows()) == 25 and "A grey heron by the river Neva" in {row["original_prompt"] for row in rows()}


def test_a_limit_ends_the_run_with_a_sentence_and_what_is_there(make: Make) -> None:
    with serving() as service:
        result = make(service.url, "--max-requests", 7)
    assert result.code == 1
    assert "--max-requests 7 is reached" in result.err
    assert len(rows()) == 7


def test_a_second_run_in_the_folder_is_refused_and_touches_nothing(make: Make) -> None:
    with serving() as service:
        make(service.url, "--max-requests", 7)
        (answers,) = Path("made/answers").glob("*.jsonl")
        with answers.open("ab") as file:
            file.write(b'{"id": ')  # what the other one is writing
        before = answers.read_bytes()
        with claimed(Path("made")):
            result = make(service.url)
        assert sum(service.asked.values()) == 7
    assert result.code == 1 and "Another run is at work in made" in result.err
    assert answers.read_bytes() == before


def test_dry_run_asks_nothing_and_tells_the_bill(make: Make) -> None:
    with serving() as service:
        result = make(service.url, "--dry-run", "--price-prompt", 2, "--price-completion", 8)
        assert not service.asked
    assert result.code == 0
    assert result.out.startswith("24 requests, about ") and "completion tokens: about 0.10;" in result.out
    assert not Path("made/triplets.parquet").exists()


def test_several_triplets_of_a_caption(make: Make) -> None:
    with serving() as service:
        make(service.url, "--per-caption", 3, "--disable", "near_duplicate")
    made = rows()
    assert len(made) == 72 and len({row["caption_id"] for row in made}) == 24


def test_the_moderation_service_is_asked(make: Make) -> None:
    with serving() as service:
        assert make(service.url, "--moderation-model", "omni-moderation-latest").code == 0
    assert Path("made/answers/moderation.jsonl").stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "needs a language model: give --model"),
        (("--model", "tiny", "--captions", "nowhere.txt"), "nowhere.txt"),
        (("--model", "tiny", "--per-caption", 0), "--per-caption is at least 1"),
        (("--model", "tiny", "--disable", "spelling"), "There is no rule spelling"),
    ],
)
def test_bad_settings_get_a_sentence(ip2p: Ip2p, arguments: tuple[object, ...], sentence: str) -> None:
    result = ip2p("dataset", "instructions", "--base-url", "http://127.0.0.1:9/v1", *arguments)
    assert result.code == 1
    assert sentence in result.err and "Traceback" not in result.err


def test_show_prints_a_sample_and_statistics(ip2p: Ip2p) -> None:
    ip2p("dataset", "instructions", "--backend", "shapes", "--num-captions", 100, "-o", "shapes")
    result = ip2p("dataset", "show", "shapes", "--sample", 3)
    assert result.code == 0
    assert result.out.count("→") == 3
    assert "kinds: " in result.out and "words in the middle" in result.out
    assert ip2p("dataset", "show", "nowhere").code == 1


def test_show_takes_what_has_no_rows_or_the_texts_alone(ip2p: Ip2p) -> None:
    texts = ("original_prompt", "edit_prompt", "edited_prompt")
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in texts}), "none.parquet")
    result = ip2p("dataset", "show", "none.parquet")
    assert result.code == 0 and "0 triplets" in result.out
    pq.write_table(pa.table({name: ["a red fox"] for name in texts}), "texts.parquet")
    result = ip2p("dataset", "show", "texts.parquet")
    assert result.code == 0 and "1 instructions, 1 captions" in result.out
    pq.write_table(pa.table({"text": ["a red fox"]}), "other.parquet")
    assert "holds no triplets: it lacks original_prompt" in ip2p("dataset", "show", "other.parquet").err
