"""`ip2p hub space`: what goes out is all that the page needs."""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from hub_fixtures import HubHere, a_hub, hub_of_module  # noqa: F401 - fixtures
from web_server import wait


def test_a_space_has_the_page_the_package_and_what_they_require(hub: HubHere) -> None:
    code, address, err = hub.ip2p("hub", "space", "--to", "me/page", "--model", "me/editor")
    assert code == 0, err
    assert address.strip() == f"{hub.address}/spaces/me/page"
    files = hub.files("me/page", "spaces")
    assert {"app.py", "README.md", "requirements.txt", "ip2p/__init__.py", "ip2p/hub/web/page.py"} <= set(files)
    assert not [name for name in files if name.endswith(".safetensors") or "tests/" in name or "__pycache__" in name]
    readme = hub.get_text("/spaces/me/page/resolve/main/README.md")
    assert re.search(r"^sdk: gradio$", readme, re.MULTILINE) and "- me/editor" in readme
    required = hub.get_text("/spaces/me/page/resolve/main/requirements.txt").splitlines()
    assert any(line.startswith("diffusers") for line in required) and not any("pytest" in line for line in required)


def test_a_dry_run_only_lists(hub: HubHere) -> None:
    for model, folder, other in (
        ("shapes", "shapes_model", "shapes_few_model"),
        ("shapes-few", "shapes_few_model", "shapes_model"),
    ):
        code, listed, _ = hub.ip2p("hub", "space", "--to", "me/dry", "--model", model, "--dry-run")
        assert code == 0 and "app.py" in listed and f"ip2p/ip2p_pipeline/{folder}/unet" in listed
        assert other not in listed
    assert hub.get("/_log") == []


def test_a_name_that_is_none_is_told(hub: HubHere) -> None:
    code, _, err = hub.ip2p("hub", "space", "--to", "me/page", "--model", "./folder")
    assert code == 1 and "--model is a repository's id like user/name, not './folder'" in err


@pytest.mark.slow
def test_a_space_serves_the_page(hub: HubHere, tmp_path: Path) -> None:
    assert hub.ip2p("hub", "space", "--to", "me/page")[0] == 0
    space = tmp_path / "space"
    hub.python(
        f"from huggingface_hub import snapshot_download as f; f('me/page', repo_type='space', local_dir={str(space)!r})"
    )
    app = space / "app.py"
    app.write_text("import ip2p\nassert ip2p.__file__.startswith(__file__[:-6]), ip2p.__file__\n" + app.read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "log"
    with log.open("w") as file:
        environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen([sys.executable, "app.py"], cwd=space, stdout=file, stderr=file, env=environment)
    try:
        wait(f"http://127.0.0.1:{port}", process, log)
        assert "InstructPix2Pix" in urllib.request.urlopen(f"http://127.0.0.1:{port}").read().decode()
    finally:
        process.terminate()
        process.wait()
