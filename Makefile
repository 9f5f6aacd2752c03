# From a fresh clone: `make demo` or `make test`. All targets set up what they need in .venv first.
#   PYTHON=/path/to/python3.12   the Python to make .venv from (3.10 .. 3.13; found when not given; `make clean` first)
#   TORCH=cpu | cuda             which PyTorch (found when not given: cuda where there is an NVIDIA GPU)
#   ARGS="..."                   more arguments: make demo ARGS="--episodes 1", make test ARGS="-k pruning"

VENV := .venv
ARGS :=
export PYTHON TORCH VENV

# Runs a command as if the calling shell had set nothing that disturbs it: specprune_ros/shell_variables.py says what.
CLEAN := $(VENV)/bin/python -I -S specprune_ros/shell_variables.py $(VENV)

# An edit of Python files counts without a new installation; these are copied or compiled by it.
INSTALLED := $(wildcard config/* config/*/* launch/* msg/* scripts/* srv/*) \
             CMakeLists.txt package.xml pyproject.toml setup.py

# A virtual environment names the folder that it was made in; after a move of the clone it is made anew.
ifeq ($(filter /%,$(VENV))$(shell grep -sF "$(CURDIR)/$(VENV)" $(VENV)/bin/activate),)
$(shell rm -f $(VENV)/.environment)
endif

.PHONY: demo test check lint format types venv lock clean help

demo: venv  ## five episodes of the simulated tabletop over ROS 2; results in report/
	@$(CLEAN) $(VENV)/bin/specprune demo --report report $(ARGS)

test: venv  ## the test suite, on two cores: graphs mostly wait and run beside the rest; slow tests too: ARGS='-m ""'
	@$(CLEAN) $(VENV)/bin/python -m pytest -n 3 --dist loadscope --durations=15 -m "not slow" $(ARGS)

check: lint types  ## before a commit: lint, types and the fast tests
	@$(CLEAN) $(VENV)/bin/python -m pytest -q -n 2 --dist loadscope -m "not slow and not ros and not sim" $(ARGS)

lint: venv  ## ruff: rules and formatting
	@$(CLEAN) $(VENV)/bin/ruff check .
	@$(CLEAN) $(VENV)/bin/ruff format --check .

format: venv  ## ruff: apply formatting and the safe corrections
	@$(CLEAN) $(VENV)/bin/ruff format .
	@$(CLEAN) $(VENV)/bin/ruff check --fix .

types: venv  ## mypy
	@$(CLEAN) $(VENV)/bin/mypy

venv: $(VENV)/.installed  ## only set up .venv: nothing to do when nothing changed

$(VENV)/.environment: pyproject.toml tools/setup.sh tools/requirements.py $(wildcard tools/constraints/*)
	@echo "Setting up $(VENV) (about 1.5 minutes once everything is downloaded)"
	@tools/setup.sh environment
	@touch $@

$(VENV)/.installed: $(VENV)/.environment $(INSTALLED)
	@tools/setup.sh package
	@touch $@

lock: venv  ## resolve the versions in tools/constraints/ anew: make lock ARGS="python3.10 python3.11 ..."
	@$(CLEAN) $(VENV)/bin/python tools/lock.py $(ARGS)

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist install log report *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)
