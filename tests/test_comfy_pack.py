"""The pack as ComfyUI finds it: light to import, itself beside another ip2p, with help, names and workflows."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from comfy_graphs import inputs_of
from comfy_host import Host, a_host, load_pack  # noqa: F401 - a fixture
from ip2p.comfy_nodes.shapes_scene import KINDS
from ip2p.comfy_nodes.widgets import SCHEDULERS
from ip2p.ip2p_pipeline import named_models
from ip2p.training.shapes import edits

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / "example_workflows").glob("*.json"))
OF_COMFYUI = {"note": "MarkdownNote"}


def test_loading_the_pack_loads_none_of_the_models_libraries() -> None:
    told = run(
        "from comfy_host import load_pack, node_classes; before = set(sys.modules); node_classes(load_pack()); "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    assert not {"diffusers", "transformers", "open_clip", "peft", "accelerate", "datasets"} & set(eval(told))


def test_another_ip2p_in_the_same_python_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "ip2p").mkdir()
    (tmp_path / "ip2p" / "__init__.py").write_text("raise ImportError('the other one was imported')")
    told = run(
        f"sys.path.insert(0, {str(tmp_path)!r}); from comfy_host import Host, load_pack; from pathlib import Path; "
        f"host = Host(Path({str(tmp_path)!r}), load_pack()); "
        "scene = host.execute('Ip2pShapesScene', kind='recolor', seed=1); "
        "editor = host.execute('Ip2pLoad', model='shapes (comes with ip2p)', hub_id='')[0]; "
        "host.execute('Ip2pBestOf', model=editor, image=scene[0], instruction=scene[1], clip_model='shapes', tries=1, "
        "steps=1); print('ip2p' in sys.modules)"
    )
    assert told == "False"


def test_a_huggingface_hub_before_1_0_as_the_requirements_allow_will_do() -> None:
    told = run(
        "import diffusers, huggingface_hub.errors as errors; del errors.RemoteEntryNotFoundError; "  # came with 1.0
        "import ip2p.ip2p_pipeline.named_models; print('loaded')"
    )
    assert told == "loaded"


def run(program: str) -> str:
    """What a Python of its own prints, on the last line."""
    path = str(ROOT / "tests")
    start = [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {program}"]
    return subprocess.run(start, capture_output=True, text=True, check=True, cwd="/").stdout.splitlines()[-1]


def test_lists_that_are_kept_twice_agree() -> None:
    assert ["model", *sorted(named_models.SCHEDULERS)] == SCHEDULERS
    assert tuple(KINDS) == edits.KINDS


def test_every_node_has_help_and_names_in_each_language(host: Host) -> None:
    for node_id, node in host.nodes.items():
        schema = node.GET_SCHEMA()
        assert schema.category == "InstructPix2Pix" and schema.description
        for page in (f"{node_id}.md", f"{node_id}/ko.md"):
            text = (ROOT / "comfy_nodes" / "web" / "docs" / page).read_text()
            assert text.startswith("# ") and len(text) > 100
        for language in ("en", "ko"):
            told = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text())[node_id]
            assert told["display_name"] and told["description"]
            assert set(told["inputs"]) == {each.id for each in schema.inputs}
            assert set(told["outputs"]) == {str(number) for number in range(len(schema.outputs))}
            assert all(each["name"] for each in (*told["inputs"].values(), *told["outputs"].values()))
        english = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text())[node_id]
        assert english["display_name"] == schema.display_name
        for each in schema.inputs:
            assert english["inputs"][each.id].get("tooltip") == each.tooltip
            assert each.tooltip or each.id in ("model", "before", "after", "vae")
    assert set(json.loads((ROOT / "locales" / "ko" / "nodeDefs.json").read_text())) == set(host.nodes)


def test_every_node_has_search_terms(monkeypatch: pytest.MonkeyPatch, host: Host) -> None:
    """In a ComfyUI whose schemas have a place for them, as newer ones do."""
    from comfy_api.latest import io

    class Newer(io.Schema):
        """A schema with that place."""

        search_aliases: list[str] = field(default_factory=list)

    newer = dataclass(Newer)
    monkeypatch.setattr(io, "Schema", newer)
    for node in host.nodes.values():
        terms = node.define_schema().search_aliases
        assert len(terms) >= 3 and any("ip2p" in term for term in terms)


def test_help_is_where_comfyui_looks() -> None:
    assert (ROOT / load_pack().WEB_DIRECTORY / "docs").is_dir()


def test_requirements_leave_comfyuis_own_alone() -> None:
    names = {line.split(">")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert not names & {"torch", "torchvision", "torchaudio", "numpy", "transformers"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_fit_the_nodes(path: Path, host: Host) -> None:
    workflow = json.loads(path.read_text())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    assert any(node["type"] == "MarkdownNote" and len(node["widgets_values"][0]) > 100 for node in nodes.values())
    ours = [node for node in nodes.values() if node["type"].startswith("Ip2p")]
    assert ours
    for node in ours:
        schema = host.nodes[node["type"]].GET_SCHEMA()
        check_inputs(node, schema, nodes, links)
        assert [each["type"] for each in node["outputs"]] == [each.io_type for each in schema.outputs]


def check_inputs(node: dict[str, Any], schema: Any, nodes: dict[int, Any], links: dict[int, list]) -> None:
    """Each input is there; those that are wired are of the right type, the others have a value that is allowed."""
    given = {each["name"]: each for each in node["inputs"]}
    assert set(given) == {each.id for each in schema.inputs}
    values = iter(node["widgets_values"])
    for each in schema.inputs:
        link = links.get(given[each.id]["link"])
        if link is not None:
            _, source, slot, _, _, kind = link
            assert nodes[source]["outputs"][slot]["type"] == kind == each.io_type
        if not hasattr(each, "default") and not hasattr(each, "options"):
            assert link is not None or each.optional
            continue
        value = next(values)
        if getattr(each, "control_after_generate", None):
            assert next(values) in ("fixed", "randomize", "increment", "decrement")
        if getattr(each, "options", None):
            assert value in each.options
        if getattr(each, "min", None) is not None:
            assert each.min <= value <= each.max
    assert list(values) == []


@pytest.mark.parametrize("path", [path for path in WORKFLOWS if "native" not in path.stem], ids=lambda path: path.stem)
def test_workflows_run(path: Path, host: Host) -> None:
    """Our nodes of a workflow, with its own values and fewer steps."""
    workflow = json.loads(path.read_text())
    graph: dict[str, dict[str, Any]] = {}
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    for node in workflow["nodes"]:
        if not node["type"].startswith("Ip2p"):
            continue
        inputs = inputs_of(node, host.nodes[node["type"]].GET_SCHEMA(), sources)
        if "steps" in inputs:
            inputs["steps"] = 2
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    for node in graph.values():  # what ComfyUI's own nodes would give
        lacking = [name for name, value in node["inputs"].items() if isinstance(value, list) and value[0] not in graph]
        assert set(lacking) <= {"mask"}
        for name in lacking:
            del node["inputs"][name]
    outputs = host.run(graph)
    pictures = [value for told in outputs.values() for value in told if getattr(value, "ndim", 0) == 4]
    assert len(pictures) >= 2
