"""The journal: what is written stays, whole, and every store has its own bookmark."""

import pytest

from pipelines.tracking.journal import Journal


@pytest.fixture
def journal(tmp_path):
    return Journal.last(tmp_path / "tracking")


def test_events_are_read_back_in_order_from_any_bookmark(journal):
    for number in range(5):
        journal.append("metrics", step=number)
    events = list(journal.events())
    assert [event["step"] for _, event in events] == [0, 1, 2, 3, 4]
    after_two = events[1][0]
    assert [event["step"] for _, event in journal.events(after_two)] == [2, 3, 4]


def test_every_store_has_its_own_bookmark(journal):
    for _ in range(3):
        journal.append("metrics")
    first, _ = next(journal.events())
    journal.advance("http://one", delivered=first, run="abc")
    assert journal.pending("http://one") == 2
    assert journal.pending("http://two") == 3
    assert journal.bookmark("http://one") == {"delivered": first, "run": "abc"}


def test_an_event_half_written_at_a_kill_is_dropped_and_glued_to_nothing(journal):
    journal.append("metrics", step=1)
    with journal.path.open("ab") as file:
        file.write(b'{"kind": "metrics", "st')
    assert journal.pending("store") == 1
    journal.append("metrics", step=2)
    assert [event["step"] for _, event in journal.events()] == [1, 2]


def test_a_journal_that_is_half_a_line_starts_over(journal):
    journal.path.parent.mkdir()
    journal.path.write_bytes(b'{"kind"')
    journal.append("metrics", step=1)
    assert [event["step"] for _, event in journal.events()] == [1]


def test_a_damaged_line_is_an_event_that_says_so(journal):
    journal.append("metrics", step=1)
    with journal.path.open("ab") as file:
        file.write(b"\0\0\0\n")
    journal.append("metrics", step=2)
    assert [event["kind"] for _, event in journal.events()] == ["metrics", "unreadable", "metrics"]


def test_journals_are_counted_not_sorted_by_name(tmp_path):
    for _ in range(11):
        journal = Journal.last(tmp_path)
        (Journal.after(journal) if journal.written else journal).append("start")
    assert [journal.path.name for journal in Journal.all(tmp_path)] == [f"{n}.jsonl" for n in range(1, 12)]


def test_a_folder_without_journals_has_a_first_one_unwritten(tmp_path):
    journal = Journal.last(tmp_path / "tracking")
    assert not journal.written
    assert list(journal.events()) == []
    assert not (tmp_path / "tracking").exists()
