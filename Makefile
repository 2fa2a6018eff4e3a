# Each target makes .venv first, when it is missing or older than the requirements.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: dashboard test check format

dashboard: .venv/run
	$(BIN)/python dashboard.py

# Two processes, each on one thread of its own; a file's tests stay together, for the fixtures that they share.
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/dev: requirements-dev.txt requirements-mcp.txt requirements-ray.txt requirements.txt .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
