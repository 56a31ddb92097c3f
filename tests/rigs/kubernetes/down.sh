#!/usr/bin/env bash
# Ends what up.sh started, by pid, and takes away what it left: containers of pods, mounts, control groups, rules of
# iptables, settings of the kernel. Does nothing where there is no cluster.
#   KUBE_STOP_DOCKER=1   ends dockerd as well, if these scripts started it
#   KUBE_WIPE=1          removes keys, logs and etcd's data, too
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" || exit 1
# shellcheck source=tests/rigs/kubernetes/lib.sh
. ./lib.sh

end_pods() {
  local ids
  docker info >/dev/null 2>&1 || return 0
  mapfile -t ids < <(docker ps -aq --filter label=io.kubernetes.pod.uid)
  ((${#ids[@]} == 0)) || docker rm -f "${ids[@]}" >/dev/null
}

clear_iptables() {  # what kube-proxy leaves, and the kubelet beside it
  local table rule operation chain
  for table in filter nat mangle; do
    iptables -w -t "$table" -S 2>/dev/null | grep -q '^-N KUBE-' || continue
    iptables -w -t "$table" -S | sed -n 's/^-A \(.*-j KUBE-.*\)$/-D \1/p' |
      while read -r rule; do eval "iptables -w -t $table $rule"; done
    for operation in -F -X; do
      iptables -w -t "$table" -S | sed -n 's/^-N \(KUBE-.*\)$/\1/p' |
        while read -r chain; do iptables -w -t "$table" "$operation" "$chain"; done
    done
  done
}

clear_folders() {
  local path
  awk -v top="$RUN/kubelet" '$2 == top || index($2, top "/") == 1 {print $2}' /proc/mounts | sort -r |
    while read -r path; do umount "$path"; done
  rm -rf "$RUN/kubelet" /var/lib/dockershim
  for path in /var/log/pods /var/log/containers; do [[ ! -d $path ]] || rm -rf "${path:?}"/*; done
  for path in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods; do
    [[ ! -d $path ]] || find "$path" -depth -type d -exec rmdir {} + 2>/dev/null
  done
}

end_docker() {
  local pid
  [[ -n ${KUBE_STOP_DOCKER:-} && -f $KUBE_HOME/dockerd.pid ]] || return 0
  pid=$(cat "$KUBE_HOME/dockerd.pid")
  ! grep -q dockerd "/proc/$pid/comm" 2>/dev/null || kill "$pid"
  rm -f "$KUBE_HOME/dockerd.pid"
}

[[ -d $RUN ]] || { echo "down.sh: nothing at $RUN"; exit 0; }
for name in kube-scheduler kube-controller-manager kubelet; do stop_one "$name" 3; done
end_pods
if [[ -f $RUN/pid/kube-proxy ]]; then
  stop_one kube-proxy 3
  "$BIN/kube-proxy" --cleanup >/dev/null 2>&1
fi
for name in kube-apiserver api-on-bridge etcd; do stop_one "$name" 3; done
clear_iptables
clear_folders
if [[ -f $RUN/sysctl.saved ]]; then
  sysctl -q -p "$RUN/sysctl.saved"
  rm -f "$RUN/sysctl.saved"
fi
[[ ! -d $RUN/pid ]] || write_pids
end_docker
[[ -z ${KUBE_WIPE:-} ]] || rm -rf "${RUN:?}"
echo "down"
