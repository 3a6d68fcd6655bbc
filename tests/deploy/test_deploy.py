"""What the deploy guide and its files promise exists: paths, extras, commands with their options, users of the ACL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from commands import in_shell_blocks, parse
from ruamel.yaml import YAML

from deploy.certificates import make
from edge.config import EdgeConfig
from edge.config_file import load
from inspection.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))
COMPOSE: dict[str, Any] = YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text())
ACL = (DEPLOY / "mosquitto" / "haltline.acl").read_text()
GUIDE = (ROOT / "docs" / "deploy.md").read_text()
EXAMPLE = DEPLOY / "edge.example.yaml"


# ── edge.yaml ───────────────────────────────────────────────────────────────────────────────────────────────────


def checked(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "haltline", "edge", "check", str(config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_the_example_is_right_once_its_files_are_there(tmp_path: Path) -> None:
    assert load(EXAMPLE).station.topics().base == "haltline/v1/east/line1/weld1"
    (tmp_path / "deploy").mkdir()
    (tmp_path / "models").symlink_to(ROOT / "models")
    config = tmp_path / "deploy" / "edge.yaml"
    config.write_text(EXAMPLE.read_text().replace("/etc/haltline/", f"{tmp_path}/"))
    absent = checked(config)
    assert absent.returncode == 2
    named = re.findall(r"([a-z_.]+): \S+ does not exist$", absent.stderr, re.MULTILINE)
    assert named == ["mqtt.tls.ca", "mqtt.tls.cert", "mqtt.tls.key", "hub.token_file", "hub.ca"]
    make(tmp_path / "tls", ["edge-east-line1-weld1"], ["localhost"])
    (tmp_path / "edge-token").write_text("token\n")
    done = checked(config)
    assert done.returncode == 0, done.stderr
    assert "haltline/v1/east/line1/weld1" in done.stdout


def test_the_example_shows_every_section_and_says_where_every_key_is() -> None:
    """docs/edge.md is made from the code and has every key; the example must not grow into a copy of it."""
    text = EXAMPLE.read_text()
    missing = {name for name in EdgeConfig.model_fields if not re.search(rf"^(# )?{name}:", text, re.MULTILINE)}
    assert not missing
    assert "docs/edge.md" in text


def test_what_the_example_has_commented_out_is_right_too(tmp_path: Path) -> None:
    """Each commented key, uncommented: it must be known where it stands, and hold a value that is taken."""
    lines = [re.sub(r"^(\s*)# (\s*[a-z_]+:| {6})", r"\1\2", line) for line in EXAMPLE.read_text().splitlines()]
    assert sum(line != was for line, was in zip(lines, EXAMPLE.read_text().splitlines(), strict=True)) > 15
    (tmp_path / "edge.yaml").write_text("\n".join(lines))
    config = load(tmp_path / "edge.yaml")
    shown = {"classes", "store", "trusted_keys", "username", "password_file"}  # these have no default to show
    default = EdgeConfig(station=config.station, cameras=config.cameras, bundle=config.bundle, state_dir=Path())
    said = dict(re.findall(r"^\s*# ([a-z_]+): *([\w\"'.]+)", EXAMPLE.read_text(), re.MULTILINE))
    for part in (default.policy, default.spool, default.mqtt, default.bundle):
        for name in type(part).model_fields.keys() & said.keys() - shown:
            assert str(getattr(part, name)).lower() == said[name].strip("\"'").lower(), name


# ── images ──────────────────────────────────────────────────────────────────────────────────────────────────────


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_an_image_copies_what_is_there_and_what_its_command_needs(path: Path) -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for name, rest in instructions(path):
        if name == "COPY" and "--from=" not in rest:
            copied |= {source.removeprefix("./") for source in rest.split()[:-1]}
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {named["readme"], "LICENSE", "pyproject.toml", "constraints.txt", "haltline.py", "inspection"} <= copied
    for source in copied - {named["readme"]}:
        assert (ROOT / source).exists(), source
    assert copied <= kept, ".dockerignore leaves out what the image copies"
    assert ("edge" in copied) != ("review" in copied), "one room an image"
    assert "training" not in copied


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_an_image_installs_known_extras_without_torch_and_runs_a_command_that_exists(path: Path) -> None:
    steps = instructions(path)
    install = next(rest for name, rest in steps if name == "RUN" and "pip install" in rest)
    extras = {e for found in re.findall(r"'?\.\[([\w,]+)\]'?", install) for e in found.split(",")}
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras <= known.keys()
    assert not any("torch" in need for extra in extras for need in known[extra])
    entry = json.loads(next(rest for name, rest in steps if name == "ENTRYPOINT"))
    assert entry == ["haltline"]
    parse(json.loads(next(rest for name, rest in steps if name == "CMD")))
    assert any(name == "HEALTHCHECK" for name, _ in steps)
    assert next(rest for name, rest in steps if name == "USER") != "root"


# ── compose ─────────────────────────────────────────────────────────────────────────────────────────────────────


def commands() -> dict[str, list[str]]:
    return {
        n: s["command"]
        for n, s in COMPOSE["services"].items()
        if n not in ("broker", "certificates") and "command" in s
    }


@pytest.mark.parametrize("service", commands())
def test_a_services_command_parses(service: str) -> None:
    parse(commands()[service])


def test_compose_names_files_volumes_and_conditions_that_exist() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            exists = (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
            assert exists, f"{name}: {volume}"
        for other, how in service.get("depends_on", {}).items():
            assert other in services
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other]
        assert set(service.get("secrets", [])) <= COMPOSE["secrets"].keys()
        built_with_check = service.get("build", {}).get("dockerfile", "") in {f"deploy/{d.name}" for d in DOCKERFILES}
        assert "healthcheck" in service or built_with_check, f"{name} has no health check"


def test_every_certificate_a_service_shows_is_made_and_has_a_block_in_the_acl() -> None:
    made = set(
        re.findall(r"\b((?:edge|plc)-[\w-]+|hub|health)\b(?=[\s\n])", COMPOSE["services"]["certificates"]["command"][0])
    )
    used = set(re.findall(r"/etc/haltline/tls/([\w-]+)\.key", (DEPLOY / "compose.yaml").read_text()))
    used |= set(re.findall(r"/etc/haltline/tls/([\w-]+)\.key", (DEPLOY / "edge.compose.yaml").read_text()))
    assert used == made
    assert made == set(re.findall(r"^user ([\w-]+)$", ACL, re.MULTILINE))


def test_the_brokers_mounts_are_where_its_configuration_looks() -> None:
    conf = (DEPLOY / "mosquitto" / "plant.conf").read_text()
    targets = {v.split(":")[1]: v.split(":")[0] for v in COMPOSE["services"]["broker"]["volumes"]}
    assert targets == {"/etc/haltline/mosquitto": "./mosquitto", "/etc/haltline/tls": "tls"}
    assert "acl_file /etc/haltline/mosquitto/haltline.acl" in conf
    assert set(re.findall(r"/etc/haltline/tls/([\w.]+)", conf)) == {"ca.crt", "broker.crt", "broker.key"}


def test_the_edge_of_compose_is_right(tmp_path: Path) -> None:
    text = (DEPLOY / "edge.compose.yaml").read_text()
    assert "/opt/haltline/models/" in text
    (tmp_path / "edge.yaml").write_text(text.replace("/opt/haltline/models", str(ROOT / "models")))
    config = load(tmp_path / "edge.yaml")
    assert (config.bundle.path / "manifest.json").is_file()
    s = config.station
    assert f"user edge-{s.site}-{s.line}-{s.station}\n" in ACL
    assert config.hub
    assert config.hub.url == "http://hub:8080"


# ── the guide ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda p: p.name)
def test_a_units_command_parses(unit: Path) -> None:
    command = re.search(r"^ExecStart=/opt/haltline/venv/bin/haltline (.*)$", unit.read_text(), re.MULTILINE)
    assert command
    words = command[1].replace("$HALTLINE_HUB_OPTIONS", "").split()
    if "review" in words:
        options = re.search(r"^HALTLINE_HUB_OPTIONS=(.*)$", GUIDE, re.MULTILINE)
        assert options
        words += options[1].split()
    parse(words)


def test_the_guides_commands_parse_and_their_files_exist() -> None:
    seen = 0
    for words in in_shell_blocks(GUIDE):
        if words[0] == "runuser":
            assert words[:2] == ["runuser", "-u"]
            assert f"useradd --system --home-dir /var/lib/{words[2]}" in GUIDE
            assert words[3] == "--"
            words = words[4:]
        if words[0] == "haltline":
            parse(words[1:])
            seen += 1
        for word in words:
            if word.startswith("deploy/"):
                assert (ROOT / word).exists(), word
    assert seen >= 4


def test_the_guide_makes_what_the_next_step_needs() -> None:
    commands = [" ".join(words) for words in in_shell_blocks(GUIDE)]

    def first(start: str) -> int:
        return next(k for k, command in enumerate(commands) if command.startswith(start))

    def hub(command: str) -> int:
        return first(f"runuser -u haltline-hub -- haltline review {command}")

    venv, link = (
        first("python3 -m venv /opt/haltline/venv"),
        first("ln -s /opt/haltline/venv/bin/haltline /usr/local/bin/"),
    )
    assert (
        venv
        < first("/opt/haltline/venv/bin/pip install")
        < first("/opt/haltline/venv/bin/python -m deploy.certificates")
    )
    doctor, edge = first("runuser -u haltline -- haltline edge doctor"), first("systemctl enable --now haltline-edge")
    assert link < doctor < edge
    serve = first("systemctl enable --now haltline-review")
    assert (
        first("install -m 600 /dev/null /etc/haltline/hub.env")
        < first("HALTLINE_EDGE_TOKEN=")
        < serve
        < hub("user add")
    )
    assert serve < hub("backup")
    for group, key, before in (
        ("mosquitto", "broker", first("systemctl restart mosquitto")),
        ("haltline", "edge-east-line1-weld1", doctor),
        ("haltline-hub", "hub", serve),
    ):
        path = f"/etc/haltline/tls/{key}.key"
        assert max(first(f"chgrp {group} {path}"), first(f"chmod 640 {path}")) < before
    for named in re.findall(r"^[^#\n]*?: (/etc/haltline/[\w-]+)$", EXAMPLE.read_text(), re.MULTILINE):
        assert first(f"install -m 640 -g haltline /dev/null {named}") < doctor
    for command in commands:
        assert not command.startswith(("haltline edge", "haltline review", "python ")), "root's, or not in PATH"


def test_the_guides_links_lead_somewhere_and_it_says_what_the_stop_is_not() -> None:
    for target in re.findall(r"\]\(([^)#]+?)\)", GUIDE):
        assert (ROOT / "docs" / target).exists(), target
    assert "not a safety function: no PL, no SIL" in " ".join(GUIDE.split())


# ── whose a certificate is ──────────────────────────────────────────────────────────────────────────────────────


def test_a_second_station_of_one_certificate_name_is_refused(tmp_path: Path) -> None:
    first = [c.name for c in make(tmp_path, ["edge-a-b/c/weld1", "plc-a-b/c/weld1", "hub"], ["localhost"])]
    assert first == ["edge-a-b-c-weld1", "plc-a-b-c-weld1", "hub"]
    kept = (tmp_path / "edge-a-b-c-weld1.key").read_bytes()
    with pytest.raises(InputError, match=r"edge-a-b-c-weld1\.crt: is the name of a-b/c/weld1 already, and a/b-c/weld1"):
        make(tmp_path, ["edge-east-line1-weld1", "edge-a/b-c/weld1"], ["localhost"])
    assert (tmp_path / "edge-a-b-c-weld1.key").read_bytes() == kept
    assert not (tmp_path / "edge-east-line1-weld1.crt").exists(), "all or none"
    make(tmp_path, ["edge-a-b/c/weld1"], ["localhost"])  # the same one's again, before it runs out
    with pytest.raises(InputError, match="is the name of x/y-z/w already"):
        make(tmp_path / "new", ["edge-x/y-z/w", "edge-x-y/z/w"], ["localhost"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("edge-a-b-c-weld1", "may be any of the stations a/b/c-weld1, a/b-c/weld1, a-b/c/weld1"),
        ("plc-a/b", "has 2 levels"),
        ("edge-a//b", "line: '' is no topic level"),
    ],
)
def test_a_name_that_does_not_say_whose_it_is_is_refused_with_the_fix(tmp_path: Path, name: str, says: str) -> None:
    command = [sys.executable, "-m", "deploy.certificates", str(tmp_path / "tls"), name, "--broker-host", "localhost"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, says in done.stderr, "fix: " in done.stderr) == (2, True, True), done.stderr
    assert not (tmp_path / "tls").exists()
