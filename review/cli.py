"""`haltline review …`: the hub, its people, labels and models. Imports little, so that `--help` is instant."""

from __future__ import annotations

import gc
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from inspection.errors import HaltlineError
from review.cli_audit import app as audit
from review.cli_backup import backup, restore
from review.cli_user import app as user

if TYPE_CHECKING:
    from review.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The hub: operators' pages, alarms, labels, models.")
app.add_typer(user, name="user")
models = typer.Typer(no_args_is_help=True, add_completion=False, help="Model bundles the hub can roll out.")
app.add_typer(models, name="models")
app.add_typer(audit, name="audit")
app.command()(backup)
app.command()(restore)

BAD_INPUT = 2
SWITCH_S = 0.0005
"""How long a page's rendering may keep the interpreter while what arrives waits: Python's 5 ms, four times a message,
were what a hub of 200 stations could not afford."""
STREAMS_END_S = 3
"""Open event streams get this long when the hub stops; without a limit an idle one would keep it alive for ever."""

Data = Annotated[Path, typer.Option("--data", help="Folder for database, frames and bundles.")]


@app.command()
def serve(
    data: Data = Path("var/hub"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages.")] = 8080,
    mqtt_host: Annotated[str, typer.Option(help="The broker.")] = "127.0.0.1",
    mqtt_port: Annotated[int, typer.Option(min=1, max=65535, help="Its port; 8883 with TLS.")] = 1883,
    mqtt_user: Annotated[str | None, typer.Option(envvar="HALTLINE_MQTT_USER", help="The hub's user there.")] = None,
    mqtt_password: Annotated[
        str | None, typer.Option(envvar="HALTLINE_MQTT_PASSWORD", help="Its password; better in the environment.")
    ] = None,
    mqtt_ca: Annotated[Path | None, typer.Option(help="The broker's CA certificate (PEM); switches TLS on.")] = None,
    mqtt_cert: Annotated[Path | None, typer.Option(help="The hub's own certificate (PEM).")] = None,
    mqtt_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    mqtt_version: Annotated[int, typer.Option(help="5, or 3 for brokers that speak MQTT 3.1.1 only.")] = 5,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy address instead of DATA/hub.db.")] = None,
    edge_token: Annotated[
        str | None,
        typer.Option(envvar="HALTLINE_EDGE_TOKEN", help="Edges must send it with frames; better in the environment."),
    ] = None,
    https: Annotated[
        bool,
        typer.Option(help="Pages are reached by https alone, through a proxy: so goes a sign-in's cookie."),
    ] = False,
    plc_panel_url: Annotated[str | None, typer.Option(help="Demo: the simulated line controller's panel.")] = None,
    demo_people: Annotated[bool, typer.Option(help="Add three people who need no secret, to try the pages.")] = False,
    backup_dir: Annotated[
        Path | None, typer.Option(help="Where the System page puts backups; best another disk.")
    ] = None,
    realarm_min: Annotated[int, typer.Option(min=1, max=720, help="Minutes until an alarm calls again, louder.")] = 5,
    idle_min: Annotated[int, typer.Option(min=1, max=720, help="Minutes without an act until a sign-in ends.")] = 60,
    book_frames: Annotated[
        tuple[int, int, int], typer.Option(help="Examples, counterexamples, borderline cases a label book needs.")
    ] = (4, 3, 3),
    labels_per_frame: Annotated[int, typer.Option(min=1, max=9, help="How many people label each frame, blind.")] = 2,
    repeat_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of a person's labels asked for once more, unseen.")
    ] = 0.10,
    gold_share: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of a person's frames whose answer is known, unseen.")
    ] = 0.05,
    washout_days: Annotated[
        float, typer.Option(min=0, max=365, help="Days until a frame may be asked for again: nobody remembers it then.")
    ] = 7.0,
    log_format: Annotated[str, typer.Option(help="`console` for people, `json` for machines.")] = "console",
) -> None:
    """Serve the pages until Ctrl+C."""
    from pydantic import ValidationError

    from inspection.log import set_up_logging
    from review.settings import Settings

    set_up_logging(log_format)
    if (mqtt_cert or mqtt_key) and not mqtt_ca:
        _give_up("--mqtt-cert: there is no TLS without --mqtt-ca\n  fix: name the broker's CA certificate as well")
    try:
        settings = Settings.model_validate(
            {
                "data_dir": data,
                "host": host,
                "port": port,
                "mqtt": {
                    "host": mqtt_host,
                    "port": mqtt_port,
                    "user": mqtt_user,
                    "password": mqtt_password,
                    "ca_file": mqtt_ca,
                    "cert_file": mqtt_cert,
                    "key_file": mqtt_key,
                    "version": mqtt_version,
                },
                "database_url": database,
                "edge_token": edge_token,
                "https": https,
                "plc_panel_url": plc_panel_url,
                "demo_people": demo_people,
                "backup_dir": backup_dir,
                "realarm_min": realarm_min,
                "idle_min": idle_min,
                "book_frames": book_frames,
                "labels_per_frame": labels_per_frame,
                "repeat_share": repeat_share,
                "gold_share": gold_share,
                "washout_days": washout_days,
            }
        )
        run(settings)
    except ValidationError as e:
        first = e.errors()[0]
        option = "-".join(str(part) for part in first["loc"]).replace("_", "-")
        _give_up(f"--{option}: {first['msg']}")
    except HaltlineError as e:
        _give_up(str(e))


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="New folder for `haltline dataset import`.")],
    task: Annotated[str | None, typer.Option(help="Which task's labels; needed when there are several.")] = None,
    allow_single: Annotated[bool, typer.Option(help="Frames that only one person labelled as well.")] = False,
    form: Annotated[
        str, typer.Option("--format", help="labelled (keeps everything), coco, label-studio, yolo, mvtec or pairs.")
    ] = "labelled",
    labels_per_frame: Annotated[
        int, typer.Option(min=1, max=9, help="Labels a frame must have: what the hub was started with.")
    ] = 2,
    soft: Annotated[
        bool, typer.Option(help="Weigh people by how reliable they are: soft labels, also of frames they differ on.")
    ] = False,
    data: Data = Path("var/hub"),
    database: Annotated[str | None, typer.Option(help="SQLAlchemy address instead of DATA/hub.db.")] = None,
) -> None:
    """Write what people agree on as a labelled folder; name what they differ on."""
    from review.exchange import WANTED
    from review.export import export_labels
    from review.settings import Settings

    wanted = next((known for known in WANTED if known == form), None)
    if wanted is None:
        _give_up(f"--format: {form!r} is none of {', '.join(WANTED)}")
    try:
        settings = Settings(data_dir=data, database_url=database, labels_per_frame=labels_per_frame)
        summary = export_labels(settings, out, task, allow_single=allow_single, soft=soft, form=wanted)
    except HaltlineError as e:
        _give_up(str(e))
    typer.echo(f"{out}: {summary.line()}")
    if summary.no_word:
        typer.echo(f"  {summary.no_word} left out: nobody said where, which {form} has no word for")
    for why, uids in (("to adjudicate", summary.disputed), ("unreadable", summary.unreadable)):
        for uid in uids:
            typer.echo(f"  {why}: /label/{uid}")


@app.command()
def suspects(
    file: Annotated[Path, typer.Argument(help="What `haltline dataset suspects` wrote.")],
    data: Data = Path("var/hub"),
    database: Annotated[str | None, typer.Option(help="SQLAlchemy address instead of DATA/hub.db.")] = None,
) -> None:
    """Take in labels a model disagrees with, for the page /suspects; works while the hub runs."""
    from review import suspects as found
    from review.clock import wall_ms
    from review.settings import Settings
    from review.store import Store

    try:
        lines = found.read(file)
        store = Store(Settings(data_dir=data, database_url=database).database)
        store.migrate()
        with store.writing() as session:
            taken = found.take_in(session, lines, wall_ms())
        store.close()
    except (HaltlineError, OSError) as e:
        _give_up(str(e))
    typer.echo(
        f"{taken.added} labels in doubt added; {taken.known} known, {taken.decided} adjudicated, "
        f"{taken.unknown} of frames this hub does not have"
    )


@models.command("add")
def models_add(
    bundle: Annotated[Path, typer.Argument(help="The folder that `haltline export` wrote.")],
    data: Data = Path("var/hub"),
) -> None:
    """Check a bundle and put it where the hub rolls bundles out from; works while the hub runs."""
    from review.registry import Registry
    from review.settings import Settings

    try:
        added = Registry(Settings(data_dir=data).bundles_dir).add_folder(bundle)
    except HaltlineError as e:
        _give_up(str(e))
    typer.echo(f"{added.id} is ready to roll out, manifest sha256 {added.sha256}")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl+C. ConfigError when the port is taken."""
    import logging
    from asyncio import CancelledError

    import uvicorn

    from review.app import create_app
    from review.people import add_demo_people

    sys.setswitchinterval(SWITCH_S)
    listening = _listen(settings.host, settings.port)
    web = create_app(settings)
    hub = web.state.hub
    if settings.demo_people:
        add_demo_people(hub.store)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: object) -> None:
            # Streams end themselves at once; uvicorn alone would wait for tabs to close.
            hub.news.close()
            super().handle_exit(sig, frame)  # type: ignore[arg-type]

    config = uvicorn.Config(web, log_level="warning", timeout_graceful_shutdown=STREAMS_END_S, access_log=False)
    # What is cut off at the end, as a slow upload that comes again, is said by uvicorn in one line; this is sixty more.
    logging.getLogger("uvicorn.error").addFilter(lambda row: not (row.exc_info and row.exc_info[0] is CancelledError))
    _spare_the_collector()
    typer.echo(f"Haltline hub: http://{settings.host}:{listening.getsockname()[1]}/", err=True)
    Server(config).run(sockets=[listening])


def _spare_the_collector() -> None:
    """A tenth of a busy hub's processor time was Python's cyclic garbage collector, and every few seconds a walk of
    150 ms through all the libraries held every page up. What is loaded is left alone; the rest, nearly all of which
    goes by its reference counts, is looked at a thirtieth as often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else starts, so that a taken one is a plain message."""
    from inspection.errors import ConfigError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio switches Nagle's algorithm off only on sockets that say they are TCP, and with it
    # every answer of two packets (all of them) waits 40 ms for the browser's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except socket.gaierror as e:
        sock.close()
        raise ConfigError(
            "--host", f"{host!r} is no address: {e.strerror or e}", "an address of this machine, or 0.0.0.0 for all"
        ) from e
    except OSError as e:
        sock.close()
        raise ConfigError(
            "--port", f"{host}:{port} cannot be used: {e.strerror or e}", "stop what runs there or choose another port"
        ) from e
    return sock


def _give_up(why: str) -> NoReturn:
    typer.echo(f"haltline review: {why}", err=True)
    raise typer.Exit(BAD_INPUT)


if __name__ == "__main__":
    app()
