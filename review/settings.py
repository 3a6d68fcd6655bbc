"""The hub's configuration: one typed object, made once by the command line and passed down."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, SecretStr
from sqlalchemy import URL

from inspection.errors import ConfigError
from review.owner import give

BADGE_KEY_BYTES = 32
MEND = "make it a file that the hub's user may read, or put a backup's back"


class MqttSettings(BaseModel):
    """How the hub reaches the broker. `ca_file` switches TLS on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    user: str | None = None
    password: SecretStr | None = None
    version: Literal[5, 3] = 5
    """3 is MQTT 3.1.1, for brokers that speak nothing newer."""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    """The hub's own certificate, where the broker wants one; its common name is the hub's user there."""


class Settings(BaseModel):
    """Everything the hub can be told.

    `database_url` is a SQLAlchemy address; without one, `data_dir/hub.db` (SQLite, WAL) is used. `edge_token`: bearer
    token edges must send. `https`: pages are reached by https alone, so that the cookie of a sign-in goes no other way.
    `plc_panel_url`: the simulated line controller's own panel, shown on the Line page of a demo. `demo_people`: whoever
    has no secret signs in by name alone. `idle_min`: minutes without an act after which a sign-in ends.
    `book_frames`: examples, counterexamples and borderline cases that each class of a label book must show.
    `labels_per_frame` people label each frame, blind. Of a person's labels, `repeat_share` are asked for once more
    after `washout_days`, mirrored, and `gold_share` are frames whose answer is known.
    `backup_dir`: where the System page puts backups, best on another disk; without one, `data_dir/backups`.
    `realarm_min`: an alarm that nobody acknowledges calls louder after that many minutes, and after as many again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    mqtt: MqttSettings = MqttSettings()
    database_url: str | None = None
    edge_token: SecretStr | None = None
    https: bool = False
    plc_panel_url: str | None = Field(default=None, pattern=r"^https?://")
    demo_people: bool = False
    backup_dir: Path | None = None
    realarm_min: int = Field(default=5, ge=1, le=720)
    idle_min: int = Field(default=60, ge=1, le=720)
    book_frames: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = (4, 3, 3)
    labels_per_frame: int = Field(default=2, ge=1, le=9)
    repeat_share: float = Field(default=0.10, ge=0, le=0.5)
    gold_share: float = Field(default=0.05, ge=0, le=0.5)
    washout_days: float = Field(default=7, ge=0, le=365)

    @property
    def database(self) -> str | URL:
        """Of a file an object and no text: a folder's `%20`, `?` or `#` would mean something else in an address."""
        return self.database_url or URL.create("sqlite", database=str(self.data_dir / "hub.db"))

    @property
    def frames_dir(self) -> Path:
        return self.data_dir / "frames"

    @property
    def bundles_dir(self) -> Path:
        return self.data_dir / "bundles"

    @property
    def backups_dir(self) -> Path:
        return self.backup_dir or self.data_dir / "backups"

    def session_secret(self) -> str:
        """The cookie's key; kept, so that a restart of the hub signs nobody out."""
        return self._kept("secret", secrets.token_urlsafe(32))

    def badge_key(self) -> bytes:
        """What badge numbers are hashed with; kept beside the database and not in it. Without it no badge is known, so
        a file that is none is refused: under what is left of a key every badge would be somebody unknown."""
        held = self._kept("badge_key", secrets.token_hex(BADGE_KEY_BYTES)).strip()
        if not re.fullmatch(rf"[0-9a-f]{{{2 * BADGE_KEY_BYTES}}}", held):
            what = f"is no key: it holds {len(held)} characters"  # and not which: it may be most of one
            fix = (
                f"{2 * BADGE_KEY_BYTES} hexadecimal digits, as in a backup's badge_key; where none is left, remove it, "
                "start the hub anew and enrol every badge again: haltline review user badge NAME"
            )
            raise ConfigError(self.data_dir / "badge_key", what, fix)
        return held.encode()

    def badges_failing(self) -> str:
        """Why no badge can be read right now; empty when they can. A look makes no key: it would be one that fits no
        badge."""
        path = self.data_dir / "badge_key"
        try:
            if not path.exists():
                return str(ConfigError(path, "is missing", f"{MEND}; a hub that may write there makes one"))
            self.badge_key()
        except ConfigError as e:
            return str(e)
        except OSError as e:
            return str(ConfigError(path, f"cannot be read: {e.strerror}", MEND))
        return ""

    def mqtt_client_id(self) -> str:
        """The hub's name at the broker; kept, because what arrived while the hub was away waits under it, and made for
        each hub, because two clients of one name throw each other out."""
        return self._kept("mqtt_client_id", f"haltline-hub-{secrets.token_hex(4)}")

    def _kept(self, name: str, fresh: str) -> str:
        """What the data folder holds under `name`; `fresh` is written there the first time."""
        path = self.data_dir / name
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                # Whole or not at all: a crash half-way would leave an empty one for good.
                new = path.with_suffix(".new")
                new.touch(mode=0o600)
                give(new)
                new.write_text(fresh)
                new.replace(path)
        except OSError as e:
            raise ConfigError("data_dir", f"{self.data_dir} cannot be written: {e}", "name a folder you own") from e
        try:
            return path.read_text()
        except OSError as e:
            raise ConfigError(path, f"cannot be read: {e.strerror}", MEND) from e
        except UnicodeDecodeError as e:
            raise ConfigError(path, "cannot be read: it is no text", MEND) from e
