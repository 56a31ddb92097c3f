#!/usr/bin/env bash
# One command: sets up what the tests need, also on a fresh machine, then runs tests/check.sh and pytest.
# Arguments go to pytest: tests/run.sh tests/unit -k decode
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export SCALEMESH_HOME="$PWD/.scalemesh/tests"  # never the folder of an installation
# shellcheck source=install.sh
source ./install.sh

run_tests() {
  local python="" checked=0
  mkdir -p "$state/bin"
  : >"$install_log"
  need_git
  install_test_packages
  install_node
  install_tools
  install_sandbox
  export PATH="$venv/bin:$state/node/bin:$state/bin:$PATH"
  unset SCALEMESH_HOME
  tests/check.sh || checked=1
  pytest "$@"
  ((checked == 0)) || { printf 'tests/check.sh failed: see above\n' >&2; exit 1; }
}

install_test_packages() {
  local wanted
  need_python
  wanted=$(fingerprint_of "$python" config/locked/dev.txt config/locked/build.txt pyproject.toml)
  is_current packages "$wanted" && return
  need_venv_module
  make_venv
  install_locked dev build
  step "Linking the source tree" pip install --quiet --no-index --no-deps --no-build-isolation --editable . ||
    show_log "the source tree could not be installed"
  set_current packages "$wanted"
}

# Programs that only tests use: another network path, namespaces with addresses of their own, large files, a browser.
install_tools() {
  local pair missing=()
  for pair in bwrap:bubblewrap pasta:passt ip:iproute2 git-lfs:git-lfs chromium:chromium; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  ((${#missing[@]} == 0)) || system_install "${missing[@]}" ||
    say "  note: tests that need ${missing[*]} cannot run here; $(by_hand "${missing[@]}")"
}

run_tests "$@"
