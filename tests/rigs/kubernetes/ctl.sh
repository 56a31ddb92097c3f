#!/usr/bin/env bash
# One part of a running cluster, for tests of what happens when it fails.
#   ctl.sh status | stop NAME | start NAME | kill NAME | logs NAME [LINES]
# NAME: etcd, kube-apiserver (the API is away), kube-controller-manager, kube-scheduler (pods stay pending), kubelet
# (the node is lost).
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
# shellcheck source=tests/rigs/kubernetes/lib.sh
. ./lib.sh

status() {
  local file name pid
  for file in "$RUN"/pid/*; do
    [[ -f $file ]] || continue
    name=$(basename "$file") pid=$(cat "$file")
    if alive "$name"; then
      echo "$name $pid $(awk '/VmRSS/ {printf "%d MB", $2 / 1024}' "/proc/$pid/status")"
    else
      echo "$name dead"
    fi
  done
}

case ${1:-status} in
  status) status ;;
  stop) stop_one "$2" 20; write_pids ;;
  start) start_one "$2"; write_pids ;;
  kill)
    ! alive "$2" || kill -KILL "$(cat "$RUN/pid/$2")"
    rm -f "$RUN/pid/$2"
    write_pids
    ;;
  logs) tail -n "${3:-100}" "$RUN/log/$2.log" ;;
  *) sed -n '2,5p' "$0"; exit 2 ;;
esac
