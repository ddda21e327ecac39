"""The text stage: captions become triplets of caption, instruction and edited caption, by a language model."""
