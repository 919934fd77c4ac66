"""The thousand classes of ImageNet's challenge: Russakovsky et al., "ImageNet large scale visual recognition
challenge", 2014.

The names are WordNet's first word for each class, told apart where two classes have the same one: crane (bird) and
crane (machine).
"""

from pathlib import Path


def class_names() -> list[str]:
    """The names in the order of the logits of every network trained on them, which is that of their WordNet numbers."""
    return Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
