# From a fresh clone: `make demo` or `make test`. Both set up what they need in .venv first.
#   PYTHON=/path/to/python3.12   the Python to make .venv from (3.10 .. 3.13; found when not given; `make clean` first)
#   ARGS="..."                   more arguments: make demo ARGS="--episodes 1", make test ARGS="-k pruning"

VENV := .venv
ARGS :=
export PYTHON VENV

# A ROS, an environment or a discovery range of the calling shell must not leak into ours.
unexport PYTHONPATH PYTHONHOME CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(abspath $(VENV))
export PYTHONSAFEPATH := 1
export MUJOCO_GL ?= egl
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

FOLDERS := config launch msg scripts specprune_ros srv
SOURCES := $(shell find $(FOLDERS) -name __pycache__ -prune -o -print) CMakeLists.txt package.xml pyproject.toml setup.py

.PHONY: demo test venv clean help

demo: venv  ## five episodes of the simulated tabletop over ROS 2; results in report/
	@$(VENV)/bin/specprune demo --report report $(ARGS)

test: venv  ## the whole test suite, on the installed package
	@$(VENV)/bin/pytest $(ARGS)

venv: $(VENV)/.installed  ## only set up .venv: nothing to do when nothing changed

$(VENV)/.environment: pyproject.toml tools/setup.sh tools/requirements.py
	@echo "Setting up $(VENV) (about 1.5 minutes once everything is downloaded)"
	@tools/setup.sh environment
	@touch $@

$(VENV)/.installed: $(VENV)/.environment $(SOURCES)
	@tools/setup.sh package
	@touch $@

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist install log report *.egg-info .pytest_cache

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)
