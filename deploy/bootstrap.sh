#!/bin/sh
# Sets up .venv from requirements.lock, with uv where it is on PATH, else with pip. Needs no root; safe to
# repeat. PYTHON=/path/to/python chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."
venv_python=.venv/bin/python

stop() {
    printf '\nThis machine is not ready yet: %s\n' "$1" >&2
    exit 1
}

# Runs, and is new enough? Version managers put commands on PATH that only complain, so we ask each.
new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        new_enough "$PYTHON" || stop "PYTHON=$PYTHON does not run or is older than 3.11. Point PYTHON at a newer one, or unset it."
        python=$PYTHON
        return
    fi
    for python in python3.13 python3.12 python3.11 python3; do
        if new_enough "$python"; then
            python=$("$python" -c 'import sys; print(sys.executable)')
            return
        fi
    done
    python=
}

no_python() {
    stop "there is no Python 3.11 or newer on PATH.
  Debian, Ubuntu:  sudo apt install python3 python3-venv
  Fedora:          sudo dnf install python3
  macOS:           brew install python
  without root:    install uv (https://docs.astral.sh/uv), which brings its own
  elsewhere:       PYTHON=/path/to/python make"
}

not_installed() {
    stop "the packages of requirements.lock could not be installed; the reason stands above.
  No network, or a proxy or mirror is needed: the settings of pip and uv apply as everywhere.
  No wheel for this system: Linux with glibc 2.28 or newer and macOS are supported."
}

set_up_with_uv() {
    if ! new_enough "$venv_python"; then
        # With no python of its own on the machine, uv fetches one.
        rm -rf .venv
        uv venv --quiet --python "${python:-3.13}" .venv || no_python
    fi
    uv pip sync --quiet --python "$venv_python" --require-hashes requirements.lock || not_installed
    uv pip install --quiet --python "$venv_python" --no-deps --no-build-isolation --editable . || not_installed
}

set_up_with_pip() {
    if ! new_enough "$venv_python" || ! "$venv_python" -m pip --version >/dev/null 2>&1; then
        [ -n "$python" ] || no_python
        "$python" -c 'import ensurepip, venv' 2>/dev/null || stop "$python comes without its venv module.
  Debian, Ubuntu:  sudo apt install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')  (or python3-venv)
  without root:    install uv (https://docs.astral.sh/uv), which does not need it"
        "$python" -m venv --clear .venv || stop ".venv could not be made by $python; the reason stands above."
    fi
    # Compiling every module beforehand would take longer than all that is ever imported.
    set -- "$venv_python" -m pip install --quiet --quiet --no-input --disable-pip-version-check --no-compile
    PIP_USER=0 "$@" --require-hashes --requirement requirements.lock || not_installed
    PIP_USER=0 "$@" --no-deps --no-build-isolation --editable . || not_installed
}

[ -w . ] || stop "$(pwd) cannot be written to. Clone into a folder of your own."
find_python
if uv --version >/dev/null 2>&1; then tool=uv; else tool=pip; fi
echo "Setting up .venv with $tool …"
rm -f .venv/ready
"set_up_with_$tool"
pwd -P >.venv/ready
echo "Ready: $("$venv_python" --version) in .venv"
