"""The command line of a settings dataclass: its fields are the arguments, their docstrings the help."""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser, Namespace, get_loader

METAVARS = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}
KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    bool: "true or false",
    NoneType: "null",
}


def parse_settings(command: str, settings: type, description: str, argv: list[str]) -> Any:
    """The settings that `argv` asks for. Prints help or what is wrong and exits (0 or 2) where argv calls for it.

    A field without a default is positional, the others are flags with dashes for underscores: a bool is a switch,
    which --no-… turns off, a list takes one value or more. `--config FILE` reads fields from YAML or JSON; flags after
    it override them. So does `--recipe`, for settings with `recipes`, a folder: it takes a name of these, too.
    """
    recipes: Path | None = getattr(settings, "recipes", None)
    usage = " ".join(["%(prog)s", *(positional_usage(f) for f in fields(settings) if is_positional(f)), "[options]"])
    parser = SettingsParser(
        prog=f"ip2p {command}",
        usage=usage,
        description=description,
        formatter_class=argparse.HelpFormatter,
        print_config="--print-config",
        allow_abbrev=False,
    )
    told = "YAML or JSON file with settings."
    if recipes is not None:
        texts = {path.stem: path.read_text(encoding="utf-8") for path in recipes.glob("*.yaml")}
        names = ", ".join(sorted(name for name, text in texts.items() if f"\n{command}:" in f"\n{text}"))
        told += f" --recipe is the same, and takes the name of a recipe in this package, too: {names}."
    parser.add_argument("--config", action="config", metavar="FILE", help=told)
    parser.section = command
    parser.hints = {name: hint for name, hint in get_type_hints(settings).items() if get_origin(hint) is not ClassVar}
    helps = field_docstrings(settings)
    for field in fields(settings):
        add_argument(parser, field, parser.hints[field.name], helps[field.name])
    given = parser.parse_args(argv if recipes is None else [*with_recipes(argv, recipes)])
    return settings(**{field.name: given[field.name] for field in fields(settings)})


def with_recipes(argv: list[str], recipes: Path) -> Iterator[str]:
    """The arguments with `--config` and a path for `--recipe` and a name."""
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != "--recipe":
            yield word
            continue
        value = value if equals else next(words, "")
        path = recipes / f"{value}.yaml"
        yield from ("--config", str(path if path.is_file() and not Path(value).exists() else value))


class SettingsParser(ArgumentParser):
    """jsonargparse's parser, whose messages fit on a line and say where in a settings file something is wrong.

    Of a recipe, a file with a section for each command, it reads the section of its own.
    """

    section: str
    hints: Mapping[str, Any]

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        """Read a settings file."""
        try:
            content = Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            self.error(f"{path} is not text in UTF-8")
        return self.parse_string(content, path, *args, **kwargs)

    def parse_string(self, content: str, path: Any = "--config", *args: Any, **kwargs: Any) -> Namespace:
        """Read what a settings file holds."""
        try:
            given = get_loader("yaml")(content)
        except Exception as error:  # of the loader's own kinds
            self.error(f"{path} is neither YAML nor JSON: {error}")
        if not isinstance(given, dict):
            self.error(f"{path} holds no settings, NAME: VALUE on a line each")
        if isinstance(given.get(self.section), dict):
            given = given[self.section]
        for name, value in given.items():
            hint = self.hints.get(name)
            if hint is None:
                self.error(f"{path}: there is no setting {name}")
            several = any(get_origin(kind) is list for kind in (hint, *get_args(hint)))
            if several and value is not None and not isinstance(value, list):
                given[name] = value = [value]
            if not fits(value, hint):
                self.error(f"{path}: {name} is {describe(hint)}, not {json.dumps(value, default=str)}")
        return super().parse_string(json.dumps(given), path, *args, **kwargs)

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


def fits(value: Any, hint: Any) -> bool:
    """Whether a value in a settings file is of a setting's type."""
    kind, of = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(fits(value, each) for each in of)
    if kind is Literal:
        return value in of
    if kind is list:
        return isinstance(value, list) and value != [] and all(fits(each, of[0]) for each in value)
    if kind is tuple:
        return isinstance(value, list) and len(value) == len(of) and all(map(fits, value, of))
    return type(value) in {float: (float, int), Path: (str,)}.get(hint, (hint,))


def describe(hint: Any) -> str:
    """A setting's type in words."""
    kind, of = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(map(describe, of))
    if kind is Literal:
        return " or ".join(of)
    if kind is list:
        return f"{describe(of[0])} or several"
    if kind is tuple:
        return f"[{', '.join(map(describe, of))}]"
    return KINDS[hint]


def number(value: str | float) -> float:
    """A float, also NaN and infinity, which jsonargparse's own would turn away as wrong usage."""
    return float(value)


@wraps(number)  # whose name is in the message about another text
def number_or_null(value: str | float) -> float | None:
    """A float, or None for null, as a settings file has it."""
    return None if value == "null" else number(value)


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
    read = number_or_null if NoneType in get_args(hint) else number
    hint, *_ = [kind for kind in get_args(hint) if kind is not NoneType] if NoneType in get_args(hint) else [hint]
    origin, of = get_origin(hint), get_args(hint)
    if origin in (list, tuple):
        options["nargs"] = "+" if origin is list else len(of)
        hint = of[0]
    if origin is Literal:
        options["choices"] = of
    elif hint is not bool:
        metavar = METAVARS["Path" if field.name == "output" else hint.__name__]
        options |= {"type": read if hint is float else hint, "metavar": metavar}

    if is_positional(field):
        parser.add_argument(field.name, **options | {"metavar": field.name.upper()})
        return
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if default not in (None, False):
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
        options["help"] += f" Default: {shown}."
    if hint is bool:
        options["action"] = argparse.BooleanOptionalAction  # what a recipe switches on, --no-… switches off
    names = ["-o"] * (field.name == "output") + [f"--{field.name.replace('_', '-')}"]
    parser.add_argument(*names, default=list(default) if isinstance(default, tuple) else default, **options)
