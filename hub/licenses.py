"""Which license a model inherits from the one that it was trained from."""

from pathlib import Path

from huggingface_hub import ModelCard
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

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
}
# They oblige whoever passes a derived model on to do so under the same restrictions of use.
COPYLEFT = ("creativeml-openrail-m", "openrail", "openrail++", "bigscience-openrail-m")


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
    inherited = None if base_model is None else license_of(base_model)
    if asked is None and inherited is None:
        of = "of what this was trained from is not known" if base_model is None else f"of {base_model} can't be found"
        raise ValueError(
            f"The license {of}: say it with --license, as the Hub names it, such as creativeml-openrail-m."
        )
    if asked is not None and inherited in COPYLEFT and asked != inherited:
        raise ValueError(
            f"{base_model} is under {inherited}, which obliges what is derived from it to keep its restrictions: "
            f"publish under {inherited}, not {asked}."
        )
    return asked or str(inherited)
