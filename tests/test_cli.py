"""The command's surface: help, version, usage mistakes, settings from a file."""

import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from cli_runner import Ip2p, files
from ip2p import __version__
from ip2p.cli import COMMANDS, find
from ip2p.commands.arguments import field_docstrings
from ip2p.commands.settings import SchedulerName
from ip2p.ip2p_pipeline.named_models import SCHEDULERS

pytest_plugins = ["cli_fixtures"]


def test_no_command_prints_help(ip2p: Ip2p) -> None:
    result = ip2p()
    assert result.code == 0
    assert all(name in result.out for name in COMMANDS)
    assert ip2p("--help").out == result.out


def test_version(ip2p: Ip2p) -> None:
    assert ip2p("--version") == (0, f"ip2p {__version__}\n", "")


def test_an_unknown_command_names_the_known_ones(ip2p: Ip2p) -> None:
    result = ip2p("edti", "cat.jpg")
    assert result.code == 2
    assert "'edti'" in result.err
    assert "edit" in result.err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["edit", "--help"], ["edit", "cat.jpg"]])
def test_help_and_mistakes_load_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from ip2p.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'diffusers', 'transformers', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True).returncode == 0


def test_import_is_light() -> None:
    def seconds(code: str) -> float:
        start = time.perf_counter()
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
        return time.perf_counter() - start

    assert subprocess.run([sys.executable, "-c", "import sys, ip2p; sys.exit('torch' in sys.modules)"]).returncode == 0
    best = {code: min(seconds(code) for _ in range(3)) for code in ("pass", "import ip2p")}
    assert best["import ip2p"] - best["pass"] < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_all_its_settings(ip2p: Ip2p, name: str) -> None:
    settings = find(COMMANDS[name].settings)
    result = ip2p(*name.split(), "--help")
    assert result.code == 0
    documented = field_docstrings(settings)
    shown = "".join(result.out.split())  # help breaks lines at spaces and hyphens
    for field in fields(settings):
        assert "".join(documented[field.name].split()) in shown
        assert field.name.upper() in result.out or f"--{field.name.replace('_', '-')}" in result.out
    assert callable(find(COMMANDS[name].run))


@pytest.mark.parametrize(
    "arguments",
    [
        ["edit"],
        ["edit", "cat.jpg"],
        ["edit", "cat.jpg", "make it red", "--steps", "many"],
        ["edit", "cat.jpg", "make it red", "--scheduler", "best"],
        ["edit", "cat.jpg", "make it red", "--no-such-flag"],
        ["edit", "cat.jpg", "make it red", "--config", "missing.yaml"],
        ["grid", "cat.jpg", "dog.png", "make it red"],
    ],
)
def test_wrong_usage_exits_with_2_and_a_line(ip2p: Ip2p, folder: Path, arguments: list[str]) -> None:
    before = files(folder)
    result = ip2p(*arguments)
    assert result.code == 2
    assert result.out == ""
    usage, told = result.err.splitlines()
    assert usage.startswith(f"usage: ip2p {arguments[0]} IMAGE")
    assert told.startswith(f"ip2p {arguments[0]}: ")
    assert told.endswith(f"See ip2p {arguments[0]} --help.")
    assert files(folder) == before


def test_every_scheduler_on_offer_is_there() -> None:
    assert set(get_args(SchedulerName)) == set(SCHEDULERS)
