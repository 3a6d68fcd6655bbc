"""`haltline edge calibrate` and `haltline edge learn-view`: what is done once, when a camera has been set up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspection.errors import CameraError, ConfigError, InputError

if TYPE_CHECKING:
    from edge.config import CameraConfig, EdgeConfig
    from inspection.calibration import Board, Calibration
    from inspection.types import Image

ConfigPath = Annotated[Path, typer.Argument(help="The edge's configuration.")]
CameraName = Annotated[str, typer.Option("--camera", help="Which camera; may be left out when there is one.")]
GOOD_FRAMES = 1000
SHOTS_EVERY = 15
"""Frames from one picture of the board to the next, so that a hand has time to tilt it."""


def learn_view(
    config: ConfigPath,
    camera: CameraName = "",
    frames: Annotated[int, typer.Option(min=100, max=3000, help="Pictures to learn from: 1,800 are a minute.")] = 1800,
) -> None:
    """Learn how a camera sees while the line does what it usually does: then blur, dirt or a shift are noticed."""
    from edge.cameras.views import keep, learn
    from edge.config_file import load
    from edge.wiring import open_camera

    settings = load(config)
    chosen = _chosen(settings, camera)
    device = open_camera(chosen)
    try:
        for view in learn(device, chosen, frames):
            path = keep(view, settings.state_dir)
            typer.echo(f"{view.camera}: view {view.id} from {view.frames} pictures -> {path}")
            if view.likeness_low is None:
                typer.echo("  nothing in this picture stands still: a camera that is moved will not be noticed")
            if view.frames < GOOD_FRAMES:
                typer.echo(f"  fewer than {GOOD_FRAMES} pictures: dirt on the lens may be called in vain")
            if view.unsteady > 0:
                typer.echo(f"  {view.unsteady:.0%} of its second half is unlike the first: learn over a longer time")
    finally:
        device.close()


def calibrate(
    config: ConfigPath,
    pictures: Annotated[list[Path] | None, typer.Argument(help="Pictures; none = take them with the camera.")] = None,
    camera: CameraName = "",
    board: Annotated[str, typer.Option(help="Inner corners of the checkerboard, e.g. 9x6.")] = "",
    square_mm: Annotated[float, typer.Option(min=0.0, help="Side of one square.")] = 0.0,
    shots: Annotated[int, typer.Option(min=1, max=50, help="Pictures to take; the first in the work's plane.")] = 1,
    points: Annotated[str, typer.Option(help="Instead of a board two points in px: x,y,x,y.")] = "",
    mm: Annotated[float, typer.Option(min=0.0, help="The distance of the two points.")] = 0.0,
    out: Annotated[Path, typer.Option(help="Where the calibration goes.")] = Path("calibration.json"),
) -> None:
    """Measure px per mm, with its error and the lens's bend, from a checkerboard or from two points."""
    from edge.config_file import load

    chosen = _chosen(load(config), camera)
    images = _read(pictures) if pictures else _take(chosen, shots if board else 1)
    found = (
        _from_points(images[0], chosen.name, points, mm) if points else _from_board(images, chosen, board, square_mm)
    )
    out.write_bytes(found.to_json())
    typer.echo(f"{found.px_per_mm:.4f} px/mm, standard error {found.error_px_per_mm:.4f}, id {found.id} -> {out}")
    if found.lens:
        typer.echo(f"corners within {found.rms_px:.2f} px in {found.pictures} of {len(images)} pictures")
    if found.tilt_share > 0.01:
        typer.echo(f"the scale differs by {found.tilt_share:.1%} over the picture: set the camera upright to the work")
    typer.echo(f"in edge.yaml, at camera {chosen.name}:  calibration: {out}")


def _chosen(settings: EdgeConfig, name: str) -> CameraConfig:
    named = [c for c in settings.cameras if c.name == name or (not name and len(settings.cameras) == 1)]
    if not named:
        known = ", ".join(c.name for c in settings.cameras)
        raise ConfigError("--camera", f"{name or 'nothing'} names no camera", f"one of: {known}")
    return named[0]


def _from_points(image: Image, camera: str, points: str, mm: float) -> Calibration:
    from inspection.calibration import from_two_points

    try:
        x0, y0, x1, y1 = (float(value) for value in points.split(","))
    except ValueError as e:
        raise InputError("--points", f"{points!r} is no x,y,x,y", "e.g. --points 40,250,600,250 --mm 50") from e
    height, width = image.shape[:2]
    return from_two_points(((x0, y0), (x1, y1)), mm, (width, height), camera, _now())


def _from_board(images: list[Image], camera: CameraConfig, board: str, square_mm: float) -> Calibration:
    from inspection.calibration import from_boards

    return from_boards(images, _board(board, square_mm), camera.name, _now())


def _board(text: str, square_mm: float) -> Board:
    from inspection.calibration import Board

    columns, _, rows = text.partition("x")
    try:
        return Board(columns=int(columns), rows=int(rows), square_mm=square_mm)
    except ValueError as e:
        what = f"{text!r} with squares of {square_mm} mm is no board"
        raise InputError("--board", what, "e.g. --board 9x6 --square-mm 5, or --points and --mm") from e


def _read(paths: list[Path]) -> list[Image]:
    import cv2
    import numpy as np

    images = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(path, "is no picture OpenCV can read", "PNG or JPEG")
        images.append(np.asarray(image, np.uint8))
    return images


def _take(config: CameraConfig, shots: int) -> list[Image]:
    from edge.wiring import open_camera

    images: list[Image] = []
    device = open_camera(config)
    try:
        for k in range(shots * SHOTS_EVERY):
            frame = device.read()
            if frame is None:
                raise CameraError(f"{config.name} ended after {len(images)} pictures")
            if (k + 1) % SHOTS_EVERY == 0:
                images.append(frame.image)
                typer.echo(f"picture {len(images)} of {shots}")
    finally:
        device.close()
    return images


def _now() -> str:
    import datetime

    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
