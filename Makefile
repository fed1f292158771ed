# `make demo` tunes a real SQLite database under load; `make test` runs the tests. Both make .venv first.
# Another interpreter: make test PYTHON=python3.12
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH := torch==2.13.0# what the tests were made with; the package itself asks for a range

.PHONY: demo test clean

demo: .venv/demo
	.venv/bin/arqon-gp demo $(ARGS)

test: .venv/test
	.venv/bin/python -m pytest -n auto --dist worksteal $(ARGS)

.venv/demo .venv/test: .venv/%: pyproject.toml | .venv/bin/python
	.venv/bin/python -m pip install --disable-pip-version-check '$(TORCH)' -e '.[$*]'
	touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found. Name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

clean:
	rm -rf .venv dist build
