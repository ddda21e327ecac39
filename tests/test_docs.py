from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

DOCS = Path(__file__).parent.parent / "docs"


def test_the_cluster_file_is_one_that_rays_launcher_takes():
    config = yaml.safe_load((DOCS / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    nodes = config["available_node_types"]
    assert nodes[config["head_node_type"]]["resources"] == {"CPU": 0}  # workers are elsewhere
    assert nodes["gpus"]["resources"]["GPU"] * nodes["gpus"]["max_workers"] == 64  # as docs/scale.md has it
