#!/usr/bin/env bash
# A real Kubernetes 1.20.2 for tests, on Debian 12: its servers and kubectl built from Debian's own source package, etcd
# and Docker from its packages. What is there already stays. Minutes the first time, a second afterwards.
#   KUBE_TARBALL=FILE.tar.zst   takes the programs from FILE where it exists; else builds them and writes FILE
#   KUBE_KEEP_BUILD=1           keeps the source and Go's cache (1.4 GB)
#   KUBE_HOME=/opt/kube         programs go to its folder bin
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
# shellcheck source=tests/rigs/kubernetes/lib.sh
. ./lib.sh
need_root

SRC=$KUBE_HOME/src
LOG=$KUBE_HOME/install.log
JOBS=${KUBE_JOBS:-2}
GO_ROOT=/usr/lib/go-1.19
PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
VERSION=v1.20.2
COMMIT=faecb196815e248d3ecfb03c680a4507229c2a56  # as the source's hack/lib/version.sh has it
PACKAGES=(etcd-server etcd-client iptables iproute2 conntrack socat ethtool openssl curl ca-certificates gcc libc6-dev
  zstd procps)
export DEBIAN_FRONTEND=noninteractive

mkdir -p "$BIN" "$SRC"
: >"$LOG"

# A step runs to the left of ||, where set -e does nothing: functions below chain their commands by && instead.
step() {  # title, command...
  local title=$1 began=$EPOCHSECONDS code=0
  shift
  "$@" >>"$LOG" 2>&1 || code=$?
  printf '%-34s %5d s%s\n' "$title" $((EPOCHSECONDS - began)) "$( ((code == 0)) || echo "  failed ($code)")"
  ((code == 0)) || { tail -n 40 "$LOG" >&2; exit "$code"; }
}

has_programs() {
  local name
  for name in "${PROGRAMS[@]}"; do [[ -x $BIN/$name ]] || return 1; done
}

missing_packages() {
  local name
  for name in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || echo "$name"
  done
  [[ -x /usr/sbin/dockerd ]] || echo docker.io
}

install_packages() {
  local names
  mapfile -t names < <(missing_packages)
  ((${#names[@]} == 0)) || apt-get install -y -q --no-install-recommends "${names[@]}"
}

install_build_packages() {
  local names=()
  [[ -x $GO_ROOT/bin/go ]] || names+=(golang-1.19-go)
  command -v dpkg-source >/dev/null || names+=(dpkg-dev)
  ((${#names[@]} == 0)) || apt-get install -y -q --no-install-recommends "${names[@]}"
}

name_sources() {  # of the archive that this machine takes its packages from
  local own=/etc/apt/sources.list.d/kubernetes-source.sources base=/etc/apt/sources.list.d/debian.sources uri key
  [[ ! -f $own ]] || return 0
  uri=$(awk '/^URIs:/ {print $2; exit}' "$base") &&
    key=$(awk '/^Signed-By:/ {print $2; exit}' "$base") && [[ -n $uri ]] || return 1
  printf 'Types: deb-src\nURIs: %s\nSuites: bookworm\nComponents: main\nSigned-By: %s\n' "$uri" "$key" >"$own"
}

fetch_source() {  # apt holds the files against the archive's signed list, so dpkg-source need not
  cd "$SRC" || return 1
  ! compgen -G 'kubernetes-1.20*/cmd/kubelet' >/dev/null || return 0
  apt-get source -y -q --download-only kubernetes && dpkg-source --no-check -x kubernetes_1.20*.dsc
}

# runc may not lower oom_score_adj without CAP_SYS_RESOURCE, which containers and small machines often lack: every pod
# would fail at its start ("can't get final child's PID from pipe: EOF"). These two constants of the kubelet are all
# that is changed.
patch_source() {
  cd "$SRC"/kubernetes-1.20*/ || return 1
  sed -i 's/defaultSandboxOOMAdj int = -998/defaultSandboxOOMAdj int = 0/' pkg/kubelet/dockershim/docker_sandbox.go &&
    sed -i 's/return guaranteedOOMScoreAdj/return 0/' pkg/kubelet/qos/policy.go &&
    grep -q 'defaultSandboxOOMAdj int = 0' pkg/kubelet/dockershim/docker_sandbox.go &&
    ! grep -q 'return guaranteedOOMScoreAdj' pkg/kubelet/qos/policy.go
}

enter_tree() {  # where Go wants it; changes the environment, so in a subshell only
  local tree
  export GOROOT=$GO_ROOT GOPATH=$KUBE_HOME/gopath GO111MODULE=off GOFLAGS="" CGO_ENABLED=0
  export GOCACHE=$KUBE_HOME/gocache GOTOOLCHAIN=local PATH=$GO_ROOT/bin:$PATH
  mkdir -p "$GOPATH/src/k8s.io" && tree=$(cd "$SRC"/kubernetes-1.20*/ && pwd) &&
    ln -sfn "$tree" "$GOPATH/src/k8s.io/kubernetes" && cd "$GOPATH/src/k8s.io/kubernetes"
}

# The source package lacks one file that Kubernetes' own makefile would generate; the generator is in the tree.
generate_openapi() (
  enter_tree || exit 1
  made=pkg/generated/openapi/zz_generated.openapi.go
  [[ ! -s $made ]] || exit 0
  nice -n 10 go build -p "$JOBS" -o "$KUBE_HOME/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen || exit 1
  folders=$(grep -rl --include='*.go' --exclude='zz_generated*' '+k8s:openapi-gen=' staging/src/k8s.io pkg |
    xargs -n1 dirname | sort -u | grep -v -E 'code-generator/|sample-apiserver/' |
    sed -e 's#^staging/src/#k8s.io/kubernetes/vendor/#; s#^pkg/#k8s.io/kubernetes/pkg/#' | paste -sd,)
  nice -n 10 "$KUBE_HOME/openapi-gen" --logtostderr -i "$folders" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h hack/boilerplate/boilerplate.generatego.txt -r /dev/null && [[ -s $made ]]
)

build_program() (  # name; without the SDKs of clouds, which take most of the time
  enter_tree || exit 1
  flags="-s -w"
  for package in client-go/pkg/version component-base/version; do
    for pair in gitVersion=$VERSION gitMajor=1 gitMinor=20 gitTreeState=archive gitCommit=$COMMIT \
      buildDate=2021-01-13T13:20:00Z; do
      flags="$flags -X k8s.io/kubernetes/vendor/k8s.io/$package.$pair"
    done
  done
  nice -n 10 go build -p "$JOBS" -tags providerless -ldflags "$flags" -o "$BIN/$1.new" "./cmd/$1" &&
    mv "$BIN/$1.new" "$BIN/$1"
)

build_pause() {  # the process that holds a pod's namespaces: waits, reaps, ends when told
  [[ ! -x $BIN/pause ]] || return 0
  cat >"$KUBE_HOME/pause.c" <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
static void reap(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) {
  struct sigaction ends = {.sa_handler = end}, reaps = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
  sigaction(SIGINT, &ends, 0);
  sigaction(SIGTERM, &ends, 0);
  sigaction(SIGCHLD, &reaps, 0);
  for (;;) pause();
}
C
  gcc -Os -static -s -o "$BIN/pause" "$KUBE_HOME/pause.c"
}

unpack_programs() { tar -C "$BIN" --zstd -xf "$KUBE_TARBALL"; }

pack_programs() {
  tar -C "$BIN" -cf - "${PROGRAMS[@]}" | nice -n 10 zstd -q -T"$JOBS" -12 --long=27 -f -o "$KUBE_TARBALL.part" - &&
    mv "$KUBE_TARBALL.part" "$KUBE_TARBALL"
}

build_programs() {
  local name
  step "apt packages (Go 1.19)" install_build_packages
  step "name the source archive" name_sources
  step "apt-get update (sources)" apt-get update -q
  step "source of kubernetes" fetch_source
  step "patch (oom_score_adj)" patch_source
  step "generate openapi" generate_openapi
  for name in "${PROGRAMS[@]}"; do [[ -x $BIN/$name ]] || step "build $name" build_program "$name"; done
  [[ -z ${KUBE_TARBALL:-} || -f $KUBE_TARBALL ]] || step "pack $KUBE_TARBALL" pack_programs
  [[ -n ${KUBE_KEEP_BUILD:-} ]] || step "remove source and Go's cache" \
    rm -rf "$KUBE_HOME/gocache" "$SRC" "$KUBE_HOME/gopath" "$KUBE_HOME/openapi-gen"
}

if [[ -n $(missing_packages) ]]; then
  step "apt-get update" apt-get update -q
  step "apt packages" install_packages
fi
if ! has_programs && [[ -f ${KUBE_TARBALL:-} ]]; then
  step "unpack $KUBE_TARBALL" unpack_programs
fi
has_programs || build_programs
step "pause, the program" build_pause
step "dockerd" ensure_docker
step "pause, the image" import_pause
"$BIN/kubelet" --version
