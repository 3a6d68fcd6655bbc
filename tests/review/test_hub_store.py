"""The ground: frames that cannot be half there, one writer, migrations that make what the models say."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateTable

from inspection.bundle import sha256
from inspection.errors import ConfigError, StorageError
from review import audit
from review.frames import FolderFrames
from review.people import add_person, everybody
from review.settings import Settings
from review.store import Base, Person, Store
from tests.review.factory import REPO


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path / 'hub.db'}")
    store.migrate()
    return store


@pytest.mark.parametrize("folder_mode", [0o777, 0o555])
def test_a_database_of_another_user_is_refused_at_the_start(folder_mode: int) -> None:
    """Root made it before the service came: the pages would open, and no halt be kept."""
    # Not in pytest's own folders, which only their owner enters.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(f"sqlite:///{folder / 'hub.db'}")
        store.migrate()
        store.close()
        (folder / "hub.db").chmod(0o444)
        folder.chmod(folder_mode)
        # All is imported before root is left: the checkout may lie where nobody else may read.
        start = (
            "import os, sys; from review.store import Store; from inspection.errors import ConfigError\n"
            "store = Store(sys.argv[1])\n"
            "if os.geteuid() == 0:\n    os.setgid(65534)\n    os.setuid(65534)\n"
            "try:\n    store.must_write()\n"
            "except ConfigError as e:\n    print(e)\n"
        )
        url = f"sqlite:///{folder / 'hub.db'}"
        said = subprocess.run([sys.executable, "-c", start, url], capture_output=True, text=True, check=False)
        folder.chmod(0o755)
    assert "hub.db: cannot be written by user" in said.stdout, said.stdout + said.stderr
    assert "chown it" in said.stdout


def test_migrations_make_exactly_the_models(tmp_path: Path, store: Store) -> None:
    store.close()
    with create_engine(f"sqlite:///{tmp_path / 'hub.db'}").connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_every_table_can_be_made_on_postgresql() -> None:
    for table in Base.metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


def test_migrating_twice_changes_nothing_and_a_newer_database_is_refused(store: Store) -> None:
    store.migrate()
    with store.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="start the Haltline version that made it"):
        store.migrate()


KILLED = """
import os, signal, sys
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, event
from review.store import Store
from review.store.db import MIGRATIONS

store, before, at = Store(sys.argv[1]), *sys.argv[2:]
config = Config()
config.set_main_option("script_location", str(MIGRATIONS))
with store._writer.begin() as connection:
    config.attributes["connection"] = connection
    command.upgrade(config, before)

@event.listens_for(Engine, "after_cursor_execute")
def die(connection, cursor, statement, *_):
    if statement.strip().startswith(at):
        os.kill(os.getpid(), signal.SIGKILL)

store.migrate()
"""


@pytest.mark.parametrize(
    ("before", "at"),
    [
        ("0002", "CREATE TABLE label_book_frames"),
        ("0003", "CREATE TABLE tallies"),
        ("0010", "CREATE TABLE faults"),
        ("0011", "ALTER TABLE stations ADD COLUMN retired_ms"),
    ],
)
def test_a_hub_killed_while_it_upgrades_its_schema_starts_again(tmp_path: Path, before: str, at: str) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    killed = subprocess.run([sys.executable, "-c", KILLED, url, before, at], cwd=REPO, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = Store(url)
    with store.reading() as session:
        assert session.scalar(text("SELECT version_num FROM alembic_version")) == before, "all of it or nothing"
    store.migrate()
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_reading_session_cannot_write(store: Store) -> None:
    with store.reading() as session:
        session.add(Person(name="Eve", role="admin", created_ms=1))
        with pytest.raises(OperationalError, match="readonly"):
            session.commit()


def test_writers_queue_instead_of_failing(store: Store) -> None:
    def add(n: int) -> None:
        for i in range(20):
            add_person(store, f"p{n}-{i}", "operator")

    threads = [threading.Thread(target=add, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(everybody(store)) == 120


def test_the_hub_and_a_command_beside_it_both_write_what_rests_on_what_they_read(tmp_path: Path) -> None:
    """Each row of the audit log is read before the next is written, and either may come in between."""
    address = f"sqlite:///{tmp_path / 'hub.db'}"
    stores = [Store(address), Store(address)]  # a writing connection each, like two processes
    stores[0].migrate()

    def act(store: Store, who: str) -> int:
        for n in range(60):
            with store.writing() as session:
                audit.note(session, who, "act", f"thing {n}")
        return 60

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(act, stores, ("hub", "command"))) == [60, 60]
    assert audit.problems(audit.links(stores[0]), []) == (121, [])
    for store in stores:
        store.close()


def test_a_block_that_raises_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.writing() as session:
            session.add(Person(name="Ann", role="operator", created_ms=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.reading() as session:
        assert session.scalar(select(Person)) is None


@pytest.mark.parametrize(
    ("name", "role", "what"),
    [("", "operator", "no name"), ("A" * 65, "operator", "no name"), ("Ann", "boss", "no role")],
)
def test_bad_people_are_refused_with_the_fix(store: Store, name: str, role: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        add_person(store, name, role)


@pytest.mark.parametrize("url", ["nonsense", "sqlite://", "sqlite:///:memory:", "dbase://x"])
def test_bad_database_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url"):
        Store(url)


def test_frames_are_named_by_their_content(tmp_path: Path) -> None:
    frames = FolderFrames(tmp_path)
    sha = frames.put(b"picture")
    assert sha == sha256(b"picture")
    assert frames.put(b"picture") == sha
    assert frames.read(sha) == b"picture"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [sha], "no temporary file is left"


@pytest.mark.parametrize("sha", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64])
def test_what_is_not_there_cannot_be_opened(tmp_path: Path, sha: str) -> None:
    frames = FolderFrames(tmp_path)
    assert not frames.exists(sha)
    with pytest.raises(StorageError):
        frames.read(sha)


def test_a_full_or_lost_disk_is_a_storage_error(tmp_path: Path) -> None:
    frames = FolderFrames(tmp_path / "frames")
    (tmp_path / "frames").rmdir()
    (tmp_path / "frames").write_text("not a folder any more")
    with pytest.raises(StorageError, match="cannot be written"):
        frames.put(b"picture")


def test_the_cookie_key_is_made_once_and_private(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "hub")
    assert settings.session_secret() == settings.session_secret()
    assert len(settings.session_secret()) >= 32
    assert (tmp_path / "hub" / "secret").stat().st_mode & 0o077 == 0
