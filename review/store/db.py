"""One way to read and one way to write the hub's database.

SQLite before 3.51.3 can lose data when two connections write or checkpoint one WAL, so on SQLite a single
connection writes (callers queue for it) and every reading connection is `query_only`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from inspection.errors import ConfigError, StorageError
from review.owner import give

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 5_000
NO_RIGHTS = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


class Store:
    """The hub's database. Sessions keep their objects readable after commit, so that pages can show them."""

    def __init__(self, url: str | URL) -> None:
        self.watchers: list[Callable[[Session], None]] = []
        """Each is shown every writing session before its block begins; the audit log is one."""
        try:
            parsed = make_url(url)
            if parsed.get_backend_name() == "sqlite":
                self._writer, self._reader = _sqlite(parsed, read_only=False), _sqlite(parsed, read_only=True)
            else:
                self._writer = self._reader = create_engine(url, pool_pre_ping=True)
        except (ArgumentError, NoSuchModuleError, ImportError) as e:
            fix = "sqlite:///file, or postgresql+psycopg://… and pip install 'haltline[postgres]'"
            raise ConfigError("database_url", f"{url!r}: {e}", fix) from e

    @property
    def name(self) -> str:
        """As a person knows it: the file, as its folder is written, or the address without its password."""
        url = self._writer.url
        return url.database if url.database and url.get_backend_name() == "sqlite" else url.render_as_string()

    def migrate(self) -> None:
        """Bring the schema to this version; StorageError when the database is newer or cannot be opened."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        try:
            with self._writer.begin() as connection:
                if connection.dialect.name == "sqlite":
                    # sqlite3 begins no transaction before DDL: a kill half-way would leave a schema between two
                    # versions, which no version can start with. Two that start at once upgrade one after the other.
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except Exception as e:
            raise StorageError(
                f"{self.name} cannot be brought to this version's schema: {e}\n"
                "  fix: start the Haltline version that made it, or give an empty data folder"
            ) from e

    def must_write(self) -> None:
        """ConfigError where this user may only read the database: a hub would look healthy and keep no halt."""
        if not (path := self._writer.url.database) or self._writer.dialect.name != "sqlite":
            return
        try:
            with self._writer.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # alone it succeeds on a read-only file
                connection.exec_driver_sql("PRAGMA user_version=0")
                connection.rollback()
        except DBAPIError as e:
            why = e.orig
            if not isinstance(why, sqlite3.Error) or why.sqlite_errorcode & 0xFF not in NO_RIGHTS:
                return  # damaged or locked: whoever opens it next says so
            raise ConfigError(
                path,
                f"cannot be written by user {_user()}: {why}",
                f"chown it, {path}-wal, {path}-shm and their folder to that user",
            ) from e

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that must not write."""
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises. Never nest two. StorageError when
        its turn does not come within `BUSY_MS`: whoever writes waits itself, as for another program's lock."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            if self._writer.dialect.name == "sqlite":
                # SQLite's driver begins at the first change. What was read before that (the newest link of the audit
                # log) another process may have changed by then, which fails the block; so it is this one's turn now.
                try:
                    connection = session.connection()
                except NoConnection as e:
                    raise StorageError(f"the database is busy: no turn to write within {BUSY_MS // 1000} s") from e
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            for watch in self.watchers:
                watch(session)
            yield session

    def check(self) -> None:
        """Raises StorageError when the database does not answer."""
        try:
            self._ask("SELECT version_num FROM alembic_version")  # a constant would read no page
        except (SQLAlchemyError, sqlite3.Error) as e:
            raise StorageError(f"the database does not answer: {e}") from e

    def _ask(self, statement: str) -> None:
        if (path := self._reader.url.database) and self._reader.dialect.name == "sqlite":
            # A kept connection goes on answering from its cache when the file under it is broken or gone.
            address = f"file:{quote(path)}?mode=rw"
            with closing(sqlite3.connect(address, uri=True, timeout=BUSY_MS / 1000)) as fresh:
                fresh.execute(statement).fetchone()
            return
        with self.reading() as session:
            session.execute(text(statement))

    def close(self) -> None:
        # Readers first: whoever closes last checkpoints, and that must be the writer.
        self._reader.dispose()
        self._writer.dispose()


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def read_only(path: Path) -> sqlite3.Connection:
    """`sqlite3.connect` alone makes an empty database where there is none."""
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)


def must_hold_hub(path: Path) -> None:
    """ConfigError unless `path` is a hub's database; an empty file is none. sqlite3.Error when it cannot be read."""
    fix = "name the hub's data folder"
    if not path.is_file():
        if (path.parent / "frames").is_dir():
            fix = "its database is elsewhere: pg_dump backs up PostgreSQL, and --database names it to what reads it"
        raise ConfigError("--data", f"{path.parent} holds no {path.name}", fix)
    with closing(read_only(path)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            raise ConfigError("--data", f"{path} is no hub's database: it has no tables of one", fix)


def _sqlite(url: URL, *, read_only: bool) -> Engine:
    database = url.database
    if not database or database == ":memory:":
        raise ConfigError("database_url", f"{url!r} names no file", "sqlite:////path/to/hub.db")
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    size = {"pool_size": 8, "max_overflow": 8} if read_only else {"pool_size": 1, "max_overflow": 0}
    engine = create_engine(url, connect_args={"check_same_thread": False}, pool_timeout=BUSY_MS / 1000, **size)

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        if not Path(database).stat().st_size:  # made a moment ago; SQLite gives what lies beside to the same owner
            give(Path(database))
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        connection.execute("PRAGMA foreign_keys=ON")
        if read_only:
            connection.execute("PRAGMA query_only=ON")
        else:
            connection.execute("PRAGMA journal_mode=WAL")
            # An acknowledged record is deleted at the edge, so a commit must survive a power cut.
            connection.execute("PRAGMA synchronous=FULL")

    return engine
