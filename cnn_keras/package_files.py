"""Files that come in other packages, found without importing these."""

import importlib.util
from pathlib import Path


def package_file(package: str, inside: str) -> Path | None:
    """The file at the path `inside` a package; None where the package or the file is missing."""
    spec = importlib.util.find_spec(package)
    places = (Path(folder, inside) for folder in spec.submodule_search_locations or ()) if spec else ()
    return next((place for place in places if place.is_file()), None)
