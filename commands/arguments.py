"""The command line of a settings dataclass: its fields are the arguments, their docstrings the help."""

import argparse
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser

METAVARS = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}


def parse_settings(command: str, settings: type, description: str, argv: list[str]) -> Any:
    """The settings that `argv` asks for. Prints help or what is wrong and exits (0 or 2) where argv calls for it.

    A field without a default is positional, the others are flags with dashes for underscores: a bool is a switch, a
    list takes one value or more. `--config FILE` reads fields from YAML or JSON; flags after it override them.
    """
    usage = " ".join(["%(prog)s", *(positional_usage(f) for f in fields(settings) if is_positional(f)), "[options]"])
    parser = SettingsParser(
        prog=f"ip2p {command}",
        usage=usage,
        description=description,
        formatter_class=argparse.HelpFormatter,
        print_config="--print-config",
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", metavar="FILE", help="YAML or JSON file with settings.")
    hints = get_type_hints(settings)
    helps = field_docstrings(settings)
    for field in fields(settings):
        add_argument(parser, field, hints[field.name], helps[field.name])
    given = parser.parse_args(argv)
    return settings(**{field.name: given[field.name] for field in fields(settings)})


class SettingsParser(ArgumentParser):
    """jsonargparse's parser, whose messages fit on a line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and exit with status 2."""
        self.exit(
            2, f"{self.format_usage()}{self.prog}: {' '.join(message.split()).rstrip('.')}. See {self.prog} --help.\n"
        )


def field_docstrings(settings: type) -> dict[str, str]:
    """Each field's docstring on one line, its own or the one of the class it is inherited from."""
    return {
        param.arg_name: " ".join(param.description.split())
        for cls in reversed(settings.__mro__[:-1])
        for param in docstring_parser.parse_from_object(cls).params
        if param.description
    }


def number(value: str | float) -> float:
    """A float, also NaN and infinity, which jsonargparse's own would turn away as wrong usage."""
    return float(value)


def is_positional(field: Field[Any]) -> bool:
    """Whether a field must be given."""
    return field.default is MISSING and field.default_factory is MISSING


def positional_usage(field: Field[Any]) -> str:
    """A positional field as the usage line shows it."""
    name = field.name.upper()
    return f"{name} [{name} ...]" if get_origin(field.type) is list else f'"{name}"' if name == "INSTRUCTION" else name


def add_argument(parser: ArgumentParser, field: Field[Any], hint: Any, text: str) -> None:
    """Add the argument of one field."""
    options: dict[str, Any] = {"help": text.replace("%", "%%")}
    hint, *_ = [kind for kind in get_args(hint) if kind is not NoneType] if NoneType in get_args(hint) else [hint]
    origin, of = get_origin(hint), get_args(hint)
    if origin in (list, tuple):
        options["nargs"] = "+" if origin is list else len(of)
        hint = of[0]
    if origin is Literal:
        options["choices"] = of
    elif hint is not bool:
        options |= {"type": number if hint is float else hint, "metavar": METAVARS[hint.__name__]}

    if is_positional(field):
        parser.add_argument(field.name, **options | {"metavar": field.name.upper()})
        return
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if default not in (None, False):
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
        options["help"] += f" Default: {shown}."
    if hint is bool:
        options["action"] = "store_true"
    names = ["-o"] * (field.name == "output") + [f"--{field.name.replace('_', '-')}"]
    parser.add_argument(*names, default=list(default) if isinstance(default, tuple) else default, **options)
