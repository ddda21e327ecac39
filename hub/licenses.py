"""Which license a model inherits from the one that it was trained from."""

from difflib import get_close_matches
from pathlib import Path

from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from yaml import YAMLError

# The base models that InstructPix2Pix is trained from, as their cards on the Hub say.
KNOWN = {
    "timbrooks/instruct-pix2pix": "mit",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "creativeml-openrail-m",
    "runwayml/stable-diffusion-v1-5": "creativeml-openrail-m",
    "CompVis/stable-diffusion-v1-4": "creativeml-openrail-m",
    "stabilityai/stable-diffusion-2-1": "openrail++",
    "stabilityai/stable-diffusion-2-1-base": "openrail++",
    "stabilityai/stable-diffusion-xl-base-1.0": "openrail++",
    "diffusers/sdxl-instructpix2pix-768": "openrail++",
    "shapes": "apache-2.0",
    "shapes-few": "apache-2.0",
}
# They let whoever passes a derived model on choose another license; all others are taken to bind it, too.
PERMISSIVE = [
    "afl-3.0",
    "apache-2.0",
    "artistic-2.0",
    "bsd",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsl-1.0",
    "cc-by-2.0",
    "cc-by-2.5",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc0-1.0",
    "cdla-permissive-1.0",
    "cdla-permissive-2.0",
    "ecl-2.0",
    "isc",
    "mit",
    "ms-pl",
    "ncsa",
    "odc-by",
    "pddl",
    "postgresql",
    "unlicense",
    "wtfpl",
    "zlib",
]
# What else the Hub knows, by the list in its documentation of repositories' licenses.
BINDING = [
    "agpl-3.0",
    "apple-amlr",
    "apple-ascl",
    "bigcode-openrail-m",
    "bigscience-bloom-rail-1.0",
    "bigscience-openrail-m",
    "c-uda",
    "cc",
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "cc-by-sa-3.0",
    "cc-by-sa-4.0",
    "cdla-sharing-1.0",
    "creativeml-openrail-m",
    "deepfloyd-if-license",
    "epl-1.0",
    "epl-2.0",
    "etalab-2.0",
    "eupl-1.1",
    "eupl-1.2",
    "fair-noncommercial-research-license",
    "gemma",
    "gfdl",
    "gpl",
    "gpl-2.0",
    "gpl-3.0",
    "h-research",
    "intel-research",
    "lgpl",
    "lgpl-2.1",
    "lgpl-3.0",
    "lgpl-lr",
    "llama2",
    "llama3",
    "llama3.1",
    "llama3.2",
    "llama3.3",
    "llama4",
    "lppl-1.3c",
    "mpl-2.0",
    "odbl",
    "ofl-1.1",
    "open-mdw",
    "openrail",
    "openrail++",
    "osl-3.0",
    "other",
    "unknown",
]


def license_of(base_model: str) -> str | None:
    """The license of a model: a folder's card says it, or the Hub's; None where nobody does."""
    if base_model in KNOWN:
        return KNOWN[base_model]
    card = Path(base_model) / "README.md"
    try:
        if Path(base_model).is_dir():
            return ModelCard.load(card).data.license if card.is_file() else None
        return ModelCard.load(base_model).data.license
    except (
        ValueError,
        YAMLError,
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        ConnectionError,
    ):
        return None


def settled(asked: str | None, base_model: str | None) -> str:
    """The license to publish under.

    Raises ValueError where it is not known, or where the base model's does not allow the one that is asked for.
    """
    check_license(asked)
    inherited = None if base_model is None else license_of(base_model)
    inherited = None if inherited == "unknown" else inherited
    if asked is None and inherited is None:
        of = "of what this was trained from is not known" if base_model is None else f"of {base_model} can't be found"
        raise ValueError(
            f"The license {of}: say it with --license, as the Hub names it, such as creativeml-openrail-m."
        )
    if None not in (asked, inherited) and inherited not in PERMISSIVE and asked != inherited:
        raise ValueError(
            f"{base_model} is under {inherited}, which obliges what is derived from it to keep its restrictions: "
            f"publish under {inherited}, not {asked}."
        )
    return asked or str(inherited)


def check_license(name: str | None) -> None:
    """Raise ValueError for a name that the Hub does not know, which would refuse the card."""
    if name is None or name in PERMISSIVE or name in BINDING:
        return
    near = get_close_matches(name.lower(), PERMISSIVE + BINDING, n=3, cutoff=0.4)
    meant = f" Meant was perhaps {' or '.join(near)}." if near else ""
    raise ValueError(f"The Hub knows no license {name}, for others it has the name other.{meant}")
