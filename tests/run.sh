#!/usr/bin/env bash
# One command: sets up what the tests need, also on a fresh machine, then runs tests/check.sh and pytest.
# Arguments go to pytest: tests/run.sh tests/unit -k decode
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export SCALEMESH_HOME="$PWD/.scalemesh/tests"  # never the folder of an installation
# shellcheck source=install.sh
source ./install.sh

run_tests() {
  local python="" checked=0 scratch
  mkdir -p "$state/bin"
  : >"$install_log"
  need_git
  install_test_packages
  install_node
  install_tools
  install_sandbox
  start_docker
  export PATH="$venv/bin:$state/node/bin:$state/bin:$PATH"
  unset SCALEMESH_HOME
  tests/check.sh || checked=1
  if (($#)); then
    pytest "$@"
  else  # files side by side, since most of them wait for servers; in a folder whose name leaves room for names of sockets
    scratch=$(mktemp -d /tmp/sm.XXXX)
    pytest --numprocesses 2 --dist loadgroup --basetemp "$scratch"
    rm -rf --one-file-system "$scratch"
  fi
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

# An engine of this machine's own, which goes on running; tests that need one say so where there is none.
start_docker() {
  ((EUID == 0)) || return 0
  docker info >/dev/null 2>&1 && return
  command -v dockerd >/dev/null || system_install docker.io ||
    { say "  note: tests that need docker cannot run here; $(by_hand docker.io)"; return 0; }
  step "Starting the docker engine" wait_for_docker || say "  note: no docker engine starts here, see $state/dockerd.log"
}

wait_for_docker() {
  local try
  setsid nohup dockerd >"$state/dockerd.log" 2>&1 </dev/null 9>&- &
  for ((try = 0; try < 120; try++)); do
    docker info >/dev/null 2>&1 && return
    sleep 0.25
  done
  return 1
}

run_tests "$@"
