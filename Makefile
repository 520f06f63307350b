# Every target sets up what it needs: Python 3.10 or newer, make and a package index are enough.
# Another Python: make test PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
# Files of tests are shared out, a notebook stays whole; each process has one thread, or they
# would wait for one another. One process: make test SHARED_OUT=
SHARED_OUT ?= -n auto --maxprocesses 4 --dist loadfile
# Long tests guard what shorter ones guard, too, at more cost; before a release they run: TESTS=
TESTS ?= -m 'not long'
# Pages that run in a clean environment, and that are looked at closely in the browser: a sample
# that changes with the commit, or all
PAGES ?= sample
# What make test-versions takes, and the packages that stay as constraints.txt has them
VERSIONS ?= lowest newest
KEEP ?= torch

.DEFAULT_GOAL := help
.PHONY: help demo test lint test-code test-notebooks book pdf student handouts assignment test-browser test-built test-clean
.PHONY: test-versions release-check bench stress clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

# The stamp is written last, so an interrupted install is taken up again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("obce needs Python 3.10 or newer: make PYTHON=python3.12" if sys.version_info < (3, 10) else 0)'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo 'Installing into .venv. The first time takes minutes: torch is large.'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	@touch $@

demo: $(READY)  ## compress the embedded BERT on a built-in task, in minutes, offline
	$(BIN)/obce demo

test: $(READY)  ## style and types, unit tests, notebooks: what must pass before a change is taken
	$(MAKE) -j2 lint test-code
	$(MAKE) test-notebooks

lint: $(READY)  ## style, common mistakes, types
	$(BIN)/ruff check .
	$(BIN)/mypy

test-code: $(READY)  ## unit tests, and the examples in docstrings
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests obce --doctest-modules $(TESTS) $(SHARED_OUT)

# The slowest notebook first, so that no process works on it when the others have nothing left.
test-notebooks: $(READY)  ## the book's notebooks run again, every output compared
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $$($(BIN)/python -m tools.toc) \
		--nbval --nbval-current-env $(SHARED_OUT) --no-loadscope-reorder

book: $(READY)  ## build the book into _build/html; any warning or dead link is an error
	$(BIN)/jupyter-book build --all -W -n --keep-going .
	$(BIN)/python -m tools.check_book

pdf: book  ## print the whole book into _build/obce-book.pdf (needs Chromium)
	$(BIN)/python -m tools.print_pdf

student: $(READY)  ## copies of the pages without solutions, into student/book: what Colab opens
	$(BIN)/python -m tools.make_student

handouts: $(READY)  ## figures and slides of every chapter, into _build/handouts
	$(BIN)/python -m tools.make_handouts

assignment: $(READY)  ## a course folder for nbgrader, _build/course
	$(BIN)/python -m tools.make_student --nbgrader

test-browser: pdf  ## every page in a real browser, offline, and the printed book; PAGES=all
	$(MAKE) test-built

test-built: $(READY)  ## the same, of the book as it was built and printed last
	$(BIN)/python -m pytest tests/browser --pages $(PAGES) -n auto --maxprocesses 4 --dist loadgroup

test-clean: $(READY)  ## some pages in a new environment that their set-up cells fill; PAGES=all
	$(BIN)/python -m pytest tests/clean --pages $(PAGES) $(TESTS)

test-versions: $(READY)  ## the unit tests with the lowest and the newest versions (minutes each)
	$(BIN)/python -m tools.versions $(VERSIONS) --keep $(KEEP)

release-check:  ## everything, before a release: an hour or two
	$(MAKE) test TESTS=
	$(MAKE) test-browser PAGES=all
	$(MAKE) test-clean PAGES=all TESTS=
	$(MAKE) test-versions

bench: $(READY)  ## timed comparisons: records in results/, tables in benchmarks/README.md
	$(BIN)/python -m benchmarks.run

stress: $(READY)  ## killed jobs, broken files, full disks, counted in minutes: results/stress.json
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.stress

clean:  ## remove the environment, the built book and caches
	rm -rf .venv _build build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
