# shellcheck shell=bash disable=SC2034  # others read these names
# What install.sh, up.sh, down.sh and ctl.sh share; nothing to run.
KUBE_HOME=${KUBE_HOME:-/opt/kube}
BIN=$KUBE_HOME/bin
RUN=${KUBE_RUN:-$KUBE_HOME/run}  # all that a running cluster writes
API_PORT=${KUBE_API_PORT:-6443}
ETCD_PORT=${KUBE_ETCD_PORT:-12379}
NODE_NAME=${KUBE_NODE_NAME:-kube-rig}
SERVICE_CIDR=10.96.0.0/24
PAUSE_IMAGE=k8s.gcr.io/pause:3.2

fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

need_root() { [[ $(id -u) == 0 ]] || fail "must be root"; }

alive() {  # name: its pid file names a process, and that one is of this cluster
  local pid
  pid=$(cat "$RUN/pid/$1" 2>/dev/null) && [[ -n $pid ]] || return 1
  { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -q -e "$RUN" -e "127.0.0.1:$API_PORT"
}

start_one() {  # name: runs $RUN/cmd/NAME apart from this shell
  alive "$1" && return 0
  mkdir -p "$RUN/pid" "$RUN/log"
  setsid nohup "$RUN/cmd/$1" >>"$RUN/log/$1.log" 2>&1 </dev/null &
  echo $! >"$RUN/pid/$1"
}

gone() { ! grep -q '^State:[[:space:]]*[^Z[:space:]]' "/proc/$1/status" 2>/dev/null; }  # a zombie is gone, too

stop_one() {  # name, seconds: asks, then kills, by pid
  local pid tries=$((${2:-10} * 10))
  if alive "$1"; then
    pid=$(cat "$RUN/pid/$1")
    kill -TERM "$pid" 2>/dev/null || true
    until gone "$pid" || ((tries-- <= 0)); do sleep 0.1; done
    gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$RUN/pid/$1"
}

write_pids() {  # one file with the pids of all
  local file
  : >"$RUN/pids"
  for file in "$RUN"/pid/*; do
    [[ ! -f $file ]] || echo "$(basename "$file") $(cat "$file")" >>"$RUN/pids"
  done
}

ensure_docker() {
  local tries=120
  docker info >/dev/null 2>&1 && return 0
  mkdir -p "$KUBE_HOME"
  setsid nohup dockerd >"$KUBE_HOME/dockerd.log" 2>&1 </dev/null &
  echo $! >"$KUBE_HOME/dockerd.pid"
  until docker info >/dev/null 2>&1; do
    ((tries-- > 0)) || { tail -n 20 "$KUBE_HOME/dockerd.log" >&2; return 1; }
    sleep 0.5
  done
}

import_pause() {  # by import, which needs no base that would have to be pulled
  docker image inspect "$PAUSE_IMAGE" >/dev/null 2>&1 && return 0
  tar -C "$BIN" -cf - pause | docker import -c 'ENTRYPOINT ["/pause"]' - "$PAUSE_IMAGE" >/dev/null
}

bridge_address() {  # the host's own address on docker's default bridge
  local name
  name=$(docker network inspect bridge -f '{{index .Options "com.docker.network.bridge.name"}}')
  ip -4 -o addr show dev "${name:-docker0}" | awk '{sub("/.*", "", $4); print $4; exit}'
}
