# SPDX-License-Identifier: Apache-2.0
# Everything runs in a virtual environment that this file makes. Without a ROS installation, ROS 2
# itself comes from PyPI (ROS_DISTRO=jazzy or kilted). In a shell where a ROS 2 workspace is
# sourced, the environment sees that installation instead and no ROS wheel is installed.

ifdef AMENT_PREFIX_PATH
  VENV := .venv-workspace
  VENV_OPTIONS := --system-site-packages
  EXTRAS :=
else
  ROS_DISTRO ?= jazzy
  VENV := $(if $(filter jazzy,$(ROS_DISTRO)),.venv,.venv-$(ROS_DISTRO))
  VENV_OPTIONS :=
  EXTRAS := $(ROS_DISTRO)
endif
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
comma := ,

# Tests and demo talk over DDS on this machine only.
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
export ROS_LOCALHOST_ONLY ?= 1

.PHONY: help install install-test demo test test-fast lint format clean

help:
	@echo "make demo                       node, recording, metrics and pictures in demo_output/"
	@echo "make demo BAG=my.mcap           the same on your own bag"
	@echo "make demo SEQUENCE=folder       the same on a recording that video_depth import knows"
	@echo "make test                       ruff, mypy and pytest (ROS_DISTRO=jazzy|kilted)"
	@echo "make test-fast                  the same without the slow tests"
	@echo "make format                     ruff format and fix"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)

$(VENV)/.installed: setup.py constraints.txt | $(VENV)/bin/python
	@echo "installing video_depth_ros and what it needs into $(VENV) (a few minutes, once)"
	$(PIP) -e '.$(if $(EXTRAS),[$(EXTRAS)])'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test$(if $(EXTRAS),$(comma)$(EXTRAS))]'
	@touch $@

install: $(VENV)/.installed

install-test: $(VENV)/.installed-test

demo: install
	$(BIN)/video_depth demo --output demo_output \
	  $(if $(BAG),--bag '$(BAG)') $(if $(SEQUENCE),--sequence '$(SEQUENCE)') $(ARGS)

lint: install-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest $(ARGS)

test-fast: lint
	$(BIN)/python -m pytest -m 'not slow' $(ARGS)

format: install-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-* build install log demo_output *.egg-info
