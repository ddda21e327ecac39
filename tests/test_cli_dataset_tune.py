"""`ip2p dataset tune`: a model of one's own, here or at a service; and what becomes of the key."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runner import Ip2p, files
from ip2p.training.instructions.seeds import SEEDS
from openai_faults import Faults
from openai_server import serving
from test_instructions_local import save_model

pytest_plugins = ["cli_fixtures"]

KEY = "sk-proj-0123456789abcdefSECRET"


@pytest.fixture(autouse=True)
def few_seeds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """few.jsonl, 24 of ours, and a key."""
    chosen = [line for line in SEEDS.read_text(encoding="utf-8").splitlines() if len(line) < 300]
    (folder / "few.jsonl").write_text("\n".join(chosen[:24]) + "\n", encoding="utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_a_service_tunes_and_the_model_is_named(ip2p: Ip2p) -> None:
    hosted = ("--backend", "openai", "--model", "tiny", "--seeds", "few.jsonl", "--epochs", 2, "-o", "tuned")
    with serving(Faults(key=KEY, batch_polls=0)) as service:
        result = ip2p("dataset", "tune", *hosted, "--base-url", service.url)
        assert result.code == 0, result.err
        assert "--model ft:tiny:org::ftjob-0 --examples 0" in result.out
        assert ip2p("dataset", "tune", *hosted, "--base-url", service.url).code == 0
        assert len(service.jobs) == 1
    assert json.loads(Path("tuned/tuning.json").read_text())["model"] == "ft:tiny:org::ftjob-0"


def test_a_service_that_stops_tuning_gets_a_sentence(ip2p: Ip2p) -> None:
    with serving(Faults(tuning="closing")) as service:
        result = ip2p("dataset", "tune", "--backend", "openai", "--model", "tiny", "--base-url", service.url)
    assert result.code == 1
    assert "Fine-tuning is closing" in result.err and "Traceback" not in result.err


def test_a_local_model_is_tuned_and_completes_captions(ip2p: Ip2p) -> None:
    model = save_model(Path("random"))
    result = ip2p(
        "dataset",
        "tune",
        "--model",
        model,
        "--seeds",
        "few.jsonl",
        "--epochs",
        2,
        "--learning-rate",
        0.02,
        "-o",
        "tuned",
    )
    assert result.code == 0, result.err
    before, after = (float(part.split()[-2]) for part in result.out.strip().split(","))
    assert after < before
    assert "tuned/adapter_model.safetensors" in files(Path())
    Path("captions.txt").write_text("A tall ship in the harbour of Varna\n", encoding="utf-8")
    local = ("--backend", "local", "--model", model, "--captions", "captions.txt", "--max-tokens", 4)
    assert ip2p("dataset", "instructions", *local, "--adapter", "tuned", "-o", "made").code == 0
    assert json.loads(Path("made/report.json").read_text())["answers"]["given_up"] == 1


@pytest.mark.parametrize("arguments", [("instructions", "--captions", "few.txt"), ("tune", "--backend", "openai")])
@pytest.mark.parametrize("accepted", [KEY, "another"])
def test_the_key_is_in_nothing_that_the_command_prints_or_writes(
    arguments: tuple[str, ...], accepted: str, folder: Path
) -> None:
    Path("few.txt").write_text("A tall ship in the harbour of Varna\n", encoding="utf-8")
    command = [sys.executable, "-m", "ip2p.cli", "dataset", *arguments, "--model", "tiny", "--seeds", "few.jsonl"]
    with serving(Faults(key=accepted, batch_polls=0)) as service:
        done = subprocess.run(
            [*command, "--base-url", service.url, "-o", "out"],
            env=os.environ | {"OPENAI_LOG": "debug"},
            capture_output=True,
            timeout=120,
        )
    assert done.returncode == (0 if accepted == KEY else 1)
    assert b"Request options" in done.stderr or b"HTTP Request" in done.stderr
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert KEY.encode() not in done.stdout + done.stderr + written
