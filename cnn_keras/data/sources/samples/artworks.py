"""Pictures by name: paintings to take a style from, which come along, and photographs that other packages bring.

`starry_night` is Vincent van Gogh's of 1889 and `scream` Edvard Munch's of 1893, both in the public domain; their
frames are cut off.
"""

from pathlib import Path

from cnn_keras.errors import Fault
from cnn_keras.package_files import package_file

PAINTINGS = ("starry_night", "scream")
PHOTOGRAPHS = {  # by name: the package, and the file in it
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "lake": ("deepforest", "data/AWPE Pigeon Lake 2020 DJI_0005.JPG"),
    "trees": ("deepforest", "data/OSBS_029.png"),
}


def picture(name: str) -> Path:
    """The file of a picture of this name.

    Raises:
        Fault: there is none of this name, or its package is not installed.
    """
    if name in PAINTINGS:
        return Path(__file__).parent / "artworks" / f"{name}.jpg"
    if name not in PHOTOGRAPHS:
        known = ", ".join((*PAINTINGS, *PHOTOGRAPHS))
        raise Fault(f"a picture's name must be one of {known}, got {name!r}; give a file by its path")
    file = package_file(*PHOTOGRAPHS[name])
    if file is None:
        raise Fault(f"the picture {name} needs the package {PHOTOGRAPHS[name][0]}; `make samples` installs it")
    return file


def photographs() -> dict[str, Path]:
    """Every photograph that is installed, by name."""
    files = {name: package_file(*place) for name, place in PHOTOGRAPHS.items()}
    return {name: path for name, path in files.items() if path is not None}
