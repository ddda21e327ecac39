"""What the Hub refuses in a card's metadata, as far as its documentation tells."""

import re
from typing import Any

import yaml


def errors(text: str) -> list[str]:
    """Of a card, what is wrong with it."""
    from ip2p.hub.licenses import BINDING, PERMISSIVE  # not before HF_ENDPOINT is set

    front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    if front is None:
        return ["no metadata"]
    try:
        data = yaml.safe_load(front[1])
    except yaml.YAMLError as error:
        return [f"no YAML: {error}"]
    found = []
    if data.get("license") not in (None, *PERMISSIVE, *BINDING):
        found.append('"license" must be one of the Hub\'s')
    for name in ("base_model", "library_name", "pipeline_tag"):
        if not isinstance(data.get(name, ""), str):
            found.append(f'"{name}" must be a string')
    for name in ("tags", "datasets"):
        if not all(isinstance(each, str) and each for each in data.get(name, [])):
            found.append(f'"{name}" must be strings')
    for name in (data.get("base_model"), *data.get("datasets", [])):
        if name is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            found.append(f"{name} is no id")
    return found + [error for model in data.get("model-index", []) for error in result_errors(model)]


def result_errors(model: dict[str, Any]) -> list[str]:
    """What is wrong with one of a card's models."""
    found = [] if isinstance(model.get("name"), str) else ["a model without a name"]
    for result in model["results"]:
        if not {"type"} <= result.get("task", {}).keys() or not {"type", "name"} <= result.get("dataset", {}).keys():
            found.append("a result without task or dataset")
        for metric in result["metrics"]:
            if not isinstance(metric.get("type"), str) or not isinstance(metric.get("value"), int | float):
                found.append("a metric without type or value")
    return found
