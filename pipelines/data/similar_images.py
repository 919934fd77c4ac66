"""Images that look alike stay in one split, where the recipe asks for it: `data.group_similar`."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_keras.data.difference_hash import difference_hash, similar_groups
from cnn_keras.data.files import image_pixels
from cnn_keras.data.files.image_file import normalize
from pipelines.data import validation
from pipelines.data.run_files import Run


def split_keys(run: Run, items: Sequence[Any], digests: Sequence[str]) -> list[str]:
    """What keeps images in one split, beside their groups: the digest of their content, or what those alike share.

    Args:
        items: those that can be read.
        digests: of their pixels.
    """
    distance = getattr(run.recipe.data, "group_similar", None)
    if distance is None or run.training_facts:
        return list(digests)
    with validation.progress(run.console) as bar:
        mapped = (run.parallel_map or validation.map_in_threads)(_hash, items)
        hashes = list(bar.track(mapped, total=len(items), description="hashing images"))
    groups = similar_groups(np.array(hashes, np.uint64).reshape(-1, 2), distance)
    counts = Counter(groups.tolist())
    alike = [count for count in counts.values() if count > 1]
    if alike:
        run.console.print(
            f"          {sum(alike):,} images look like others, in {len(alike):,} groups that stay in one split each; "
            f"the largest has {max(alike):,}"
        )
        if max(alike) > len(items) / 4:
            run.console.print(
                "          [yellow]more than a quarter of all images are alike[/]: data.group_similar, now "
                f"{distance}, may be too large for them"
            )
    return [str(group) for group in groups]


def _hash(item: Any) -> np.ndarray[Any, Any]:
    return difference_hash(image_pixels.decode(normalize(item.read())[0], channels=1))
