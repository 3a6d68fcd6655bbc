# Two commands do everything on a fresh machine: `make demo` and `make test`. Each makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8080
MQTT_PORT ?= 1883
CAMERA ?=
TASK ?= weld

.DEFAULT_GOAL := help
.PHONY: help demo test check fix loop real models benchmarks bench faults consistency figures screenshots clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# Torch is a separate environment step, so that the demo never waits for it. What setuptools warns of, an editable
# installation as such, fills half a screen of whoever installs for the first time.
$(VENV)/demo.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/demo.stamp  ## the whole loop on this machine: camera, edge, simulated line, hub (PORT= MQTT_PORT= CAMERA= TASK=)
	@$(BIN)/haltline demo --port $(PORT) --mqtt-port $(MQTT_PORT) --task $(TASK) $(if $(CAMERA),--camera '$(CAMERA)')

# What holds a clock to the millisecond, fills the memory on purpose or plays the whole has both cores to itself; all else
# shares them. A test that fails is run once more, and listed as RERUN (docs/decisions/0009).
TIMED := tests/e2e $(patsubst %,tests/edge/test_%.py,camera_child memory stop) tests/faults \
	tests/browser/test_stop_request.py
ROOMS := $(filter-out %/__pycache__/ tests/browser/ tests/e2e/ tests/faults/,$(wildcard tests/*/))
PAGES := tests/browser
SHARED := -n 2 --dist loadfile $(addprefix --ignore=,$(TIMED))
AGAIN := -r aR --reruns 1 --rerun-show-tracebacks

test: $(VENV)/dev.stamp  ## the whole suite: real broker, real browser, real kills
	$(BIN)/python -m pytest $(SHARED) $(AGAIN) $(ROOMS)
	$(BIN)/python -m pytest $(SHARED) $(AGAIN) $(PAGES)
	$(BIN)/python -m pytest $(AGAIN) $(TIMED)

check: $(VENV)/dev.stamp  ## ruff, mypy strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/dev.stamp  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

loop: $(VENV)/dev.stamp  ## once round: uncertain frame -> two labels -> retrained bundle -> running edge
	$(BIN)/python -m pytest tests/e2e/test_loop.py -s

models: $(VENV)/dev.stamp  ## make the released bundles again, from rendered frames only
	$(BIN)/python -m training.release

real: $(VENV)/dev.stamp  ## train and judge on public weld images (HALTLINE_DATA=folder)
	$(BIN)/python -m training.real_input

benchmarks: $(VENV)/dev.stamp  ## every public set, ours and baselines, to docs/benchmarks.md (HALTLINE_DATA=folder; hours)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.real_sets

bench: $(VENV)/dev.stamp  ## what the README quotes about the edge, measured here
	$(BIN)/haltline bench edge

faults: $(VENV)/dev.stamp  ## the fault table at its full numbers (hours)
	$(BIN)/python -m benchmarks.faults

consistency: $(VENV)/dev.stamp  ## what one rule does to people and to the model, simulated; draws the docs' plots (35 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.consistency --model --crops --plots docs/screenshots

figures: $(VENV)/dev.stamp  ## every bench, written to docs/figures.md
	$(BIN)/python -m benchmarks.all

screenshots: $(VENV)/dev.stamp  ## the pictures of every page in docs/screenshots, from a filled hub
	$(BIN)/python -m deploy.screenshots

clean:  ## remove what is made here, never data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
