"""A gallery's promises: nothing is lost among many writers or by a kill, and who is forgotten leaves no byte behind.

Every promise is tried on a SQLite file and, where CNN_TEST_POSTGRES names a database with pgvector that may be emptied,
on PostgreSQL too.
"""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cnn_keras.errors import Fault
from pipelines.faces import gallery, postgres, sqlite, store
from pipelines.faces.gallery import Photo, Settings

SETTINGS = Settings("sha256:one", 32, "/models/one", "/models/live", "sha256:live", "/models/faces")
POSTGRES = os.environ.get("CNN_TEST_POSTGRES", "")
needs_postgres = pytest.mark.skipif(not POSTGRES, reason="CNN_TEST_POSTGRES names no database")


def directions(count, dimension=32, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def photos(count, *, name="p{}", seed=0, dimension=32):
    rows = directions(count, dimension, seed)
    return [Photo(name.format(row), vector, f"{name}{row}", f"{row}.png") for row, vector in enumerate(rows)]


@pytest.fixture(params=["sqlite", *(["postgres"] if POSTGRES else [])])
def location(request, tmp_path):
    if request.param == "sqlite":
        yield str(tmp_path / "faces.db")
        return
    request.getfixturevalue("database")
    yield POSTGRES


@pytest.fixture
def opened(location):
    found = store.open_gallery(location)
    yield found
    found.close()


def test_who_is_enrolled_is_listed_found_and_exported(opened):
    people = photos(6)
    assert opened.settings() is None
    assert opened.enrol(SETTINGS, [*people, people[0]._replace(name="p1", digest="another")]) == 7
    assert opened.settings() == SETTINGS
    assert opened.count() == 7
    assert [(person.name, person.photos) for person in opened.people()][:2] == [("p0", 1), ("p1", 2)]
    first, second = opened.nearest("sha256:one", np.stack([people[3].vector, people[5].vector]), 2)
    assert [near.name for near in (first[0], second[0])] == ["p3", "p5"]
    assert first[0].distance == pytest.approx(0, abs=1e-5)
    expected = np.sort(np.square(directions(6) - people[3].vector).sum(axis=1))
    assert first[1].distance == pytest.approx(expected[1], rel=1e-4)
    np.testing.assert_allclose(first[0].vector, people[3].vector)
    np.testing.assert_allclose(opened.vectors("p1"), [people[1].vector, people[0].vector])
    (only,) = opened.enrolled("p4")
    assert (only.name, only.source) == ("p4", "4.png")
    np.testing.assert_allclose(only.vector, people[4].vector)
    assert len(list(opened.enrolled())) == 7


def test_a_photograph_is_enrolled_once(opened):
    assert opened.enrol(SETTINGS, photos(3)) == 3
    assert opened.enrol(SETTINGS, photos(4)) == 1
    assert opened.count() == 4


def test_a_gallery_of_another_model_is_refused(opened):
    opened.enrol(SETTINGS, photos(3))
    other = SETTINGS._replace(model="sha256:two")
    with pytest.raises(Fault, match="two models' embeddings cannot be compared"):
        opened.enrol(other, photos(1, name="q{}"))
    with pytest.raises(Fault, match="must be of the model sha256:two"):
        opened.nearest("sha256:two", directions(1), 1)
    assert opened.count() == 3


def test_a_gallery_is_embedded_anew_by_another_model_with_everybody_in_it(opened):
    opened.enrol(SETTINGS, photos(3))
    opened.nearest("sha256:one", directions(1), 1)
    other = Settings("sha256:two", 16, "/models/two")
    with pytest.raises(Fault, match="p2"):
        opened.enrol(other, photos(2, dimension=16), anew=True)
    assert opened.settings() == SETTINGS
    assert opened.enrol(other, photos(4, dimension=16), anew=True) == 4
    assert opened.settings() == other
    assert opened.nearest("sha256:two", directions(4, 16)[3:], 1)[0][0].name == "p3"


def test_who_is_unknown_is_refused_by_name(opened):
    opened.enrol(SETTINGS, photos(1))
    for ask in (opened.vectors, opened.forget):
        with pytest.raises(Fault, match="got 'ghost'"):
            ask("ghost")


def test_an_empty_gallery_recognises_nobody(opened):
    with pytest.raises(Fault, match="gallery must contain"):
        opened.nearest("sha256:one", directions(1), 1)


def test_who_is_forgotten_is_found_no_more_by_this_process_nor_by_another(location, opened):
    other = store.open_gallery(location)
    opened.enrol(SETTINGS, photos(20))
    rows = directions(20)
    for each in (opened, other):
        assert [near[0].name for near in each.nearest("sha256:one", rows, 1)] == [f"p{row}" for row in range(20)]
    assert other.forget("p7") == 1
    for each in (opened, other):
        assert each.nearest("sha256:one", rows[7:8], 1)[0][0].name != "p7"
        assert "p7" not in [person.name for person in each.people()]
    opened.enrol(SETTINGS, [Photo("p7", rows[7], "again")])
    assert other.nearest("sha256:one", rows[7:8], 1)[0][0].name == "p7"
    other.close()


def test_a_name_that_cannot_be_shown_is_refused():
    assert gallery.checked_name(" Ada Lovelace ") == "Ada Lovelace"
    for name in ("", "  ", "a/b", "a\nb", "x" * 201):
        with pytest.raises(Fault, match="name must be"):
            gallery.checked_name(name)


# What only files do


@pytest.fixture
def path(tmp_path):
    return tmp_path / "faces.db"


def remains(folder, vector):
    """How many of an embedding's pieces of eight bytes are somewhere in the files of a folder."""
    data = b"".join(file.read_bytes() for file in folder.iterdir())
    stored = vector.astype("<f4").tobytes()
    return sum(stored[start : start + 8] in data for start in range(0, len(stored), 8))


def test_no_byte_of_who_is_forgotten_remains_in_any_file(path):
    """Names in no order, so that pages split and rows move, which leaves copies."""
    opened = store.open_gallery(str(path))
    rows, order = directions(300, 128), np.random.default_rng(2).permutation(300)
    for row in order:
        opened.enrol(SETTINGS._replace(dimension=128), [Photo(f"{row * 7919 % 1000:03}-{row}", rows[row], str(row))])
    for row in order[::25]:
        assert remains(path.parent, rows[row]) == 64
        opened.forget(f"{row * 7919 % 1000:03}-{row}")
        assert remains(path.parent, rows[row]) == 0
    assert remains(path.parent, rows[order[1]]) == 64
    opened.close()


def test_forgetting_waits_for_those_who_read_and_says_so_where_it_waits_in_vain(path, monkeypatch):
    monkeypatch.setattr("pipelines.faces.sqlite.PATIENCE", 0.5)
    opened = store.open_gallery(str(path))
    opened.enrol(SETTINGS, photos(5))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM embeddings").fetchone()
    with pytest.raises(Fault, match="must be free for a moment"):
        opened.forget("p2")
    assert opened.count() == 4
    reader.execute("COMMIT")
    with pytest.raises(Fault, match="got 'p2'"):
        opened.forget("p2")  # the same command again finishes what the first could not
    assert remains(path.parent, directions(5)[2]) == 0
    reader.close()
    opened.close()


def enrol_some(path, worker, count, ready):
    opened = store.open_gallery(path)
    people = photos(count, name=f"w{worker}-{{}}", seed=worker)
    ready.wait()
    for photo in people:
        opened.enrol(SETTINGS, [photo])


@pytest.mark.slow
def test_eight_processes_that_enrol_at_once_lose_nothing(location):
    """They make the gallery together, too."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(8)
    workers = [context.Process(target=enrol_some, args=(location, worker, 25, ready)) for worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert [worker.exitcode for worker in workers] == [0] * 8
    opened = store.open_gallery(location)
    assert opened.count() == 200
    rows = np.concatenate([directions(25, seed=worker) for worker in range(8)])
    found = [near[0].name for near in opened.nearest("sha256:one", rows, 1)]
    assert found == [f"w{worker}-{row}" for worker in range(8) for row in range(25)]
    opened.close()


ENDLESS = """
import sys
sys.path[:0] = sys.argv[2:]
from tests.pipelines.faces.test_gallery import SETTINGS, photos
from pipelines.faces import store
opened = store.open_gallery(sys.argv[1])
for number in range(10**6):
    opened.enrol(SETTINGS, photos(5, name=f"{number}-{{}}", seed=number))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_kill_in_the_midst_of_enrolling_leaves_a_gallery_of_whole_enrolments(path):
    folders = [str(Path(__file__).parents[3])]
    for round_ in range(3):
        command = [sys.executable, "-c", ENDLESS, str(path), *folders]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            done = [int(process.stdout.readline()) for _ in range(20 + round_)]
            time.sleep(0.003 * round_)
            process.send_signal(signal.SIGKILL)
            done += [int(line) for line in process.stdout if line.strip().isdigit()]
        opened = store.open_gallery(str(path))
        assert opened.count() >= 5 * (done[-1] + 1)
        assert opened.count() % 5 == 0
        name = f"{done[-1]}-4"
        vector = directions(5, seed=done[-1])[4]
        assert opened.nearest("sha256:one", vector[None], 1)[0][0].name == name
        assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
        opened.close()


def test_a_gallery_names_its_models_by_paths_from_its_own_folder(tmp_path):
    for folder in ("old/galleries", "old/models/one"):
        (tmp_path / folder).mkdir(parents=True)
    opened = store.open_gallery(str(tmp_path / "old/galleries/faces.db"))
    opened.enrol(SETTINGS._replace(reference=str(tmp_path / "old/models/one"), liveness=""), photos(1))
    opened.close()
    (tmp_path / "old").rename(tmp_path / "new")
    opened = store.open_gallery(str(tmp_path / "new/galleries/faces.db"))
    assert opened.settings().reference == str(tmp_path / "new/models/one")
    assert opened.settings().liveness == ""
    opened.close()


def test_a_model_is_where_it_was_or_beside_the_gallery_or_must_be_named(tmp_path):
    (tmp_path / "one").mkdir()
    location, gone = str(tmp_path / "faces.db"), str(tmp_path / "elsewhere" / "one")
    assert store.moved_model(str(tmp_path / "one"), location, "--model") == str(tmp_path / "one")
    assert store.moved_model(gone, location, "--model") == str(tmp_path / "one")
    with pytest.raises(Fault, match="--model must name the folder of the gallery's model"):
        store.moved_model(str(tmp_path / "elsewhere" / "two"), location, "--model")
    with pytest.raises(Fault, match="--liveness must name"):
        store.moved_model(gone, "postgresql://nobody@localhost/faces", "--liveness")


OLD = """
CREATE TABLE settings (
    model TEXT NOT NULL, dimension INTEGER NOT NULL, reference TEXT NOT NULL, liveness TEXT NOT NULL
);
INSERT INTO settings VALUES ('sha256:one', 32, '/models/one', '/models/live');
PRAGMA user_version = 1;
"""


def test_a_gallery_from_before_its_models_had_paths_from_its_folder_is_read_and_written(path):
    tables = sqlite.TABLES.partition(";")[2]
    with sqlite3.connect(path) as made:
        made.executescript(OLD + tables)
    made.close()
    for _ in range(2):
        opened = store.open_gallery(str(path))
        assert opened.settings() == SETTINGS._replace(liveness_model="", detector="")
        opened.close()
    opened = store.open_gallery(str(path))
    assert opened.enrol(SETTINGS, photos(2)) == 2
    assert opened.nearest("sha256:one", directions(2)[1:], 1)[0][0].name == "p1"
    opened.close()


def test_a_gallery_is_for_its_owners_eyes_only(path):
    store.open_gallery(str(path)).close()
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_that_is_something_else_is_refused_and_left_alone(path):
    path.write_bytes(b"a letter to a friend, long enough to be taken for a header of a hundred bytes" * 9)
    before = path.read_bytes()
    with pytest.raises(Fault, match="gallery must be a file"):
        store.open_gallery(str(path))
    assert path.read_bytes() == before
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE letters (text)")
    other.close()
    with pytest.raises(Fault, match="must be a file of format 3"):
        store.open_gallery(str(path))
    with pytest.raises(Fault, match="must be a file that can be written"):
        store.open_gallery(str(path.parent / "missing" / "faces.db"))


def test_without_its_packages_a_database_is_refused_with_their_names(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Fault, match="cnn-keras\\[postgres\\]"):
        store.open_gallery("postgresql://nobody@localhost/nothing")


# What only a database does


@pytest.fixture
def database():
    import psycopg

    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS gallery_embeddings, gallery_people, gallery_settings")
        yield connection


@needs_postgres
def test_a_writer_that_waited_for_another_knows_what_that_one_wrote(database):
    waiter = store.open_gallery(POSTGRES)
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with ThreadPoolExecutor(1) as thread:
        with database.transaction():
            database.execute("SELECT pg_advisory_xact_lock(%s)", (postgres.LOCK,))
            added = thread.submit(waiter.enrol, SETTINGS, photos(2))
            while not (added.done() or database.execute(waiting).fetchone()[0]):
                time.sleep(0.01)
            database.execute("INSERT INTO gallery_settings VALUES (%s, %s, %s, %s, %s, %s)", SETTINGS)
            database.execute("INSERT INTO gallery_people (name) VALUES ('p1')")
        assert added.result(60) == 2
    assert database.execute("SELECT count(*) FROM gallery_settings").fetchone() == (1,)
    assert [(person.name, person.photos) for person in waiter.people()] == [("p0", 1), ("p1", 1)]
    waiter.close()


@needs_postgres
def test_a_database_from_before_its_models_had_digests_is_read_and_written(database):
    """The tables of the first version, and what it wrote into them."""
    old = postgres.TABLES
    assert "liveness_model" not in old
    database.execute("CREATE EXTENSION IF NOT EXISTS vector")
    database.execute(old)
    database.execute("INSERT INTO gallery_settings VALUES ('sha256:one', 32, '/models/one', '/models/live')")
    database.execute("INSERT INTO gallery_people (name) VALUES ('p1')")
    vector = str(directions(2)[1].tolist())
    row = "INSERT INTO gallery_embeddings (person, vector, digest, source) SELECT id, %s::vector, 'p{}1', '1.png'"
    database.execute(f"{row} FROM gallery_people", (vector,))
    for _ in range(2):
        opened = store.open_gallery(POSTGRES)
        assert opened.settings() == SETTINGS._replace(liveness_model="", detector="")
        opened.close()
    opened = store.open_gallery(POSTGRES)
    assert opened.enrol(SETTINGS, photos(2)) == 1
    assert [near[0].name for near in opened.nearest("sha256:one", directions(2), 1)] == ["p0", "p1"]
    opened.close()


@needs_postgres
def test_many_are_searched_by_the_index_of_the_database(database, monkeypatch):
    monkeypatch.setattr(postgres, "EXACT", 50)
    opened = store.open_gallery(POSTGRES)
    opened.enrol(SETTINGS, photos(80))
    database.execute("SET enable_seqscan = off")
    assert database.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'gallery_near'").fetchone() == (1,)
    assert [near[0].name for near in opened.nearest("sha256:one", directions(80), 1)] == [f"p{n}" for n in range(80)]
    opened.forget("p7")
    assert opened.nearest("sha256:one", directions(80)[7:8], 1)[0][0].name != "p7"
    other = Settings("sha256:two", 16, "/models/two")
    assert opened.enrol(other, photos(80, dimension=16), anew=True) == 80
    assert opened.nearest("sha256:two", directions(80, 16)[7:8], 1)[0][0].name == "p7"
    opened.close()


@needs_postgres
def test_a_gallery_is_shown_without_any_password():
    opened = store.open_gallery(POSTGRES)
    opened.location = "postgresql://ada:secret@host:5432/faces?password=secret"
    assert opened.shown == "postgresql://host:5432/faces"
    opened.close()
