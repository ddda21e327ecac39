"""The columns of what is made: examples, as `datasets` reads them, candidates, and the part that a triplet becomes."""

import pyarrow as pa
from datasets import Features, Image, Value

SCORES = (
    "original_caption_similarity",
    "edited_caption_similarity",
    "image_similarity",
    "directional_similarity",
)
KEPT = "kept"
FAILED = "failed"

EXAMPLES = Features(
    {
        "original_prompt": Value("string"),
        "original_image": Image(),
        "edit_prompt": Value("string"),
        "edited_prompt": Value("string"),
        "edited_image": Image(),
        "inverse_prompt": Value("string"),
        "mask": Image(),
        **{score: Value("float32") for score in SCORES},
        "seed": Value("int64"),
        "p": Value("float64"),
        "guidance_scale": Value("float64"),
        "kind": Value("string"),
        "triplet_id": Value("string"),
        "candidate": Value("int32"),
        "source": Value("string"),
    }
)
"""An example: a triplet with one pair of pictures. What is not known of it is null."""

EXAMPLES_SCHEMA: pa.Schema = EXAMPLES.arrow_schema
"""The same for Parquet, with the metadata by which `datasets` finds the pictures."""

CANDIDATES: pa.Schema = pa.schema(
    [
        ("triplet", pa.int32()),  # its place in the file of triplets
        ("triplet_id", pa.string()),
        ("number", pa.int32()),  # -1: the triplet failed, and this is its only row
        ("seed", pa.int64()),
        ("p", pa.float64()),
        ("guidance_scale", pa.float64()),
        *((score, pa.float32()) for score in SCORES),
        ("verdict", pa.string()),
        ("problem", pa.string()),
    ]
)
"""A candidate and what became of it."""

PICTURES = ("original_image", "edited_image", "mask")
PART: pa.Schema = pa.schema([*CANDIDATES, *((name, pa.binary()) for name in PICTURES)])
"""All candidates of a triplet in the order of their numbers, those that are kept with their encoded pictures."""


def picture_column(files: pa.Array) -> pa.StructArray:
    """Encoded pictures, binary and possibly null, as a column of `datasets.Image`."""
    if isinstance(files, pa.ChunkedArray):
        files = files.combine_chunks()
    storage = EXAMPLES_SCHEMA.field("original_image").type
    paths = pa.nulls(len(files), pa.string())
    return pa.StructArray.from_arrays([files, paths], fields=list(storage), mask=files.is_null())
