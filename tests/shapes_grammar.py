"""A parser of the shapes world's captions and instructions, written from what they say, not from how they are made."""

import re
from typing import NamedTuple

SIZES = {"small": "small", "little": "small", "large": "large", "big": "large"}
COLORS = "red|orange|yellow|green|blue|purple"
BACKGROUNDS = "white|grey|black|pink|cyan|brown"
SHAPES = "circle|square|triangle|diamond|cross"
PLACES = ("top left", "top right", "bottom left", "bottom right")

OBJECT = rf"a ({'|'.join(SIZES)}) ({COLORS}) ({SHAPES})(?: (?:at|in|on) the ({'|'.join(PLACES)}))?"
THE = rf"the (?:({'|'.join(SIZES)}|{COLORS}) )?({SHAPES}|object)(?: at the ({'|'.join(PLACES)}))?"
PLACE = rf"({'|'.join(PLACES)})"


class Named(NamedTuple):
    """An object as words tell it; without a cell where they leave its place open."""

    size: str
    color: str
    shape: str
    cell: int | None


class Told(NamedTuple):
    """A scene as words tell it."""

    background: str
    objects: frozenset[Named]


def parse_objects(text: str) -> list[Named]:
    return [
        Named(SIZES[size], color, shape, PLACES.index(place) if place else None)
        for size, color, shape, place in re.findall(OBJECT, text)
    ]


def parse_caption(text: str) -> Told:
    """What a caption tells; AssertionError where a word of it is left over."""
    background = rf"(?:on|against) a ({BACKGROUNDS}) background|on ({BACKGROUNDS})"
    found = re.findall(background, text)
    objects = parse_objects(text)
    assert len(found) == 1 and len(set(objects)) == len(objects), text
    rest = re.sub(OBJECT, "", re.sub(background, "", text))
    assert re.fullmatch(r"(, | and | )*", rest), text
    return Told("".join(found[0]), frozenset(objects))


def referred(words: tuple[str, str, str], scene: Told) -> Named:
    """The one object of a scene that `the (size or colour) shape (at the place)` names."""
    adjective, noun, place = words
    fits = [
        thing
        for thing in scene.objects
        if noun in ("object", thing.shape)
        and adjective in ("", thing.color, *(word for word, size in SIZES.items() if size == thing.size))
        and place in ("", "" if thing.cell is None else PLACES[thing.cell])
    ]
    assert len(fits) == 1, f"{words} names {len(fits)} objects of {scene}"
    return fits[0]


PATTERNS = {
    "recolor": rf"(?:make|turn|paint|color) {THE} ({COLORS})|change the color of {THE} to ({COLORS})"
    rf"|{THE} should be ({COLORS})",
    "reshape": rf"turn {THE} into a ({SHAPES})|make {THE} a ({SHAPES})|replace {THE} with a ({SHAPES})"
    rf"|change {THE} to a ({SHAPES})|{THE} should become a ({SHAPES})",
    "resize": rf"make {THE} (smaller|small|little|bigger|large|big)|(?:shrink|reduce) {THE}()|(?:enlarge|grow) {THE}()",
    "background": rf"(?:make|turn) the background ({BACKGROUNDS})|change the background to ({BACKGROUNDS})"
    rf"|(?:put it on|use) a ({BACKGROUNDS}) background",
    "remove": rf"(?:remove|delete|erase|take away|get rid of) {THE}",
    "add": rf"(?:add|put|draw|place|insert) {OBJECT}",
    "swap": rf"(?:swap|exchange) {THE} and {THE}|swap {THE} with {THE}|switch the places of {THE} and {THE}",
    "move": rf"(?:move|shift|bring) {THE} to the {PLACE}|put {THE} at the {PLACE}",
}


def obey(kind: str, instruction: str, scene: Told) -> Told:
    """The scene after an instruction of a kind."""
    match = re.fullmatch(PATTERNS[kind], instruction)
    assert match, f"no {kind}: {instruction}"
    # Only one alternative took part in the match; a group of it that matched nothing counts as "".
    first = next(i for i, group in enumerate(match.groups()) if group is not None)
    width = {"recolor": 4, "reshape": 4, "resize": 4, "background": 1, "remove": 3, "add": 4, "swap": 6, "move": 4}[
        kind
    ]
    first -= first % width
    groups = tuple(group or "" for group in match.groups()[first : first + width])
    objects = set(scene.objects)
    if kind == "background":
        return Told(groups[0], scene.objects)
    if kind == "add":
        return Told(scene.background, frozenset(objects | set(parse_objects(instruction))))
    thing = referred(groups[:3], scene)
    objects.remove(thing)
    if kind == "recolor":
        objects.add(thing._replace(color=groups[3]))
    elif kind == "reshape":
        objects.add(thing._replace(shape=groups[3]))
    elif kind == "resize":
        small = instruction.startswith(("shrink", "reduce")) or groups[3] in ("small", "smaller", "little")
        objects.add(thing._replace(size="small" if small else "large"))
    elif kind == "move":
        objects.add(thing._replace(cell=PLACES.index(groups[3])))
    elif kind == "swap":
        other = referred(groups[3:], scene)
        objects.remove(other)
        objects |= {thing._replace(cell=other.cell), other._replace(cell=thing.cell)}
    return Told(scene.background, frozenset(objects))
