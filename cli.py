"""The `ip2p` command: which command is meant, its settings, and the exit status.

Exit status: 0 done; 1 could not, told on stderr in a sentence; 2 wrong usage; 130 stopped, and what was done is kept.
A command's module is imported when that command runs, so help and mistakes answer at once.
"""

import argparse
import logging
import os
import sys
import warnings
from importlib import import_module
from io import TextIOWrapper
from typing import Any, NamedTuple

from . import __version__


class Command(NamedTuple):
    """A command: what it is for, and as module:name its settings' class and the function from them to exit status."""

    description: str
    settings: str
    run: str


# A name may be two words, as in "dataset pairs".
COMMANDS = {
    "demo": Command(
        "Edit a few pictures with the model inside this package, offline, and show them on a contact sheet.",
        "commands.settings:DemoSettings",
        "commands.demo:demo",
    ),
    "edit": Command(
        "Edit pictures by an instruction.",
        "commands.settings:EditSettings",
        "commands.edit:edit",
    ),
    "grid": Command(
        "Edit a picture at several scales of both guidances, on one sheet.",
        "commands.settings:GridSettings",
        "commands.grid:grid",
    ),
    "dataset instructions": Command(
        "Turn captions into triplets of caption, instruction and edited caption, by a language model.",
        "commands.instructions_settings:InstructionsSettings",
        "commands.dataset:instructions",
    ),
    "dataset tune": Command(
        "Tune a language model on the seed triplets, for `dataset instructions`.",
        "commands.instructions_settings:TuneSettings",
        "commands.dataset:tune",
    ),
    "dataset pairs": Command(
        "Draw pairs of pictures for triplets, and keep those that CLIP finds right.",
        "commands.pairs_settings:PairsSettings",
        "commands.pairs:pairs",
    ),
    "dataset import": Command(
        "Bring pairs of pictures that others made into our format.",
        "commands.pairs_data_settings:ImportSettings",
        "commands.pairs_import:import_dataset",
    ),
    "dataset show": Command(
        "Print a sample of a dataset and its statistics, or write a page of its pairs.",
        "commands.pairs_data_settings:ShowDatasetSettings",
        "commands.pairs_show:show",
    ),
    "train": Command(
        "Fine-tune an editor on pairs, from a text-to-image model or from another editor.",
        "commands.train_settings:TrainSettings",
        "commands.train:train",
    ),
    "distil": Command(
        "Distil an editor: both guidance scales in one evaluation a step, then few steps.",
        "commands.distil_settings:DistilCommandSettings",
        "commands.distil:distil",
    ),
    "evaluate": Command(
        "Compare editors with each other and with other methods, and write a report.",
        "training.evaluate.settings:EvaluateSettings",
        "commands.evaluate:evaluate",
    ),
    "recipe": Command(
        "Run the whole method by one command: captions, triplets, pairs, an editor, its report, its distilled form.",
        "commands.recipe_settings:RecipeSettings",
        "commands.recipe:recipe",
    ),
    "hub publish": Command(
        "Publish a trained editor, a LoRA or a dataset on the Hugging Face Hub, with its card.",
        "hub.settings:PublishSettings",
        "commands.hub:publish",
    ),
    "hub space": Command(
        "Publish the page of `ip2p web` for a model as a Space on the Hugging Face Hub.",
        "hub.settings:SpaceSettings",
        "commands.hub:space",
    ),
    "hub pull": Command(
        "Fetch an editor, a LoRA or a dataset from the Hugging Face Hub, whole and checked.",
        "hub.settings:PullSettings",
        "commands.hub:pull",
    ),
    "web": Command(
        "Serve a page to try a model on.",
        "hub.web.settings:WebSettings",
        "commands.web:web",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command that `argv` names, by default the process's own arguments, and give its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a notebook's is none
            stream.reconfigure(errors="backslashreplace")  # for letters that the terminal lacks
    arguments = sys.argv[1:] if argv is None else argv
    name = next((" ".join(arguments[:n]) for n in (2, 1) if " ".join(arguments[:n]) in COMMANDS), None)
    if name is None:
        return top_level(arguments)
    command = COMMANDS[name]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        from .commands.launched import end_with_launcher

        end_with_launcher()
    try:
        from .commands.arguments import parse_settings

        settings = parse_settings(name, find(command.settings), command.description, arguments[len(name.split()) :])
        show_warnings()
        return find(command.run)(settings)
    except (ValueError, OSError, MemoryError) as error:
        from .commands.report import complain

        complain(error)
        return 1
    except KeyboardInterrupt:
        print("\nip2p: stopped.", file=sys.stderr)
        return 130


def top_level(arguments: list[str]) -> int:
    """What `ip2p` answers when no command is named: help, the version, or what is wrong."""
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {command.description}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="ip2p",
        usage="ip2p COMMAND …",
        description="InstructPix2Pix: edit pictures by instruction.",
        epilog=f"commands:\n{listing}\n\nip2p COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ip2p {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    given, _ = parser.parse_known_args(arguments)
    if given.command is None and not arguments:
        parser.print_help()
        return 0
    parser.error(f"there is no command {' '.join(arguments[:1])!r}: choose from {', '.join(COMMANDS)}")


def find(where: str) -> Any:
    """What `module:name` names, in this package."""
    module, name = where.split(":")
    return getattr(import_module(f".{module}", __package__), name)


def show_warnings() -> None:
    """Print this package's warnings, each once. Those of the libraries say nothing that a user can act on."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    told: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        new = message not in told
        told.add(message)
        return new

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    handler.addFilter(is_new)
    logging.getLogger(__package__).handlers = [handler]


if __name__ == "__main__":
    sys.exit(main())
