"""Where a gallery is kept: a SQLite file, or a database of PostgreSQL."""

from pathlib import Path

from cnn_keras.errors import Fault
from pipelines.faces.gallery import OPENCV, Gallery
from pipelines.faces.postgres import PostgresGallery
from pipelines.faces.sqlite import SqliteGallery

POSTGRES = ("postgresql://", "postgres://")


def open_gallery(location: str) -> Gallery:
    """The gallery at a location: a file, which need not exist yet, or `postgresql://user@host/database`."""
    if location.startswith(POSTGRES):
        return PostgresGallery(location)

    return SqliteGallery(location)


def moved_model(folder: str, location: str, option: str) -> str:
    """Where a gallery's model is now: where it was, or in a folder of the same name beside the gallery's file.

    OpenCV, as a detector, is everywhere.

    Raises:
        Fault: it is in neither place; `option` of the command line names another.
    """
    if folder == OPENCV or Path(folder).exists():
        return folder
    beside = Path(location).resolve().parent / Path(folder).name
    if not location.startswith(POSTGRES) and beside.exists():
        return str(beside)
    raise Fault(
        f"{option} must name the folder of the gallery's model: {location} was made with the one in {folder}, which is "
        "no longer there"
    )
