#!/usr/bin/env bash
# Starts a cluster of one node from what install.sh made: etcd, API server, controller manager, scheduler, kubelet on
# this machine's dockerd. Writes the administrator's kubeconfig to the file that is named and returns once the node is
# ready. A cluster that runs already is left as it is. Pids are in $RUN/pids, logs in $RUN/log (RUN=/opt/kube/run).
#   up.sh KUBECONFIG
#   KUBE_PROXY=1       with kube-proxy: Services work, and so does a pod's own way to the API
#   KUBE_KEEP_DATA=1   keeps what etcd holds from the last time
set -euo pipefail
config=$(realpath -m "${1:?usage: up.sh KUBECONFIG}")
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
# shellcheck source=tests/rigs/kubernetes/lib.sh
. ./lib.sh
need_root
[[ -x $BIN/kubelet ]] || fail "run install.sh first"

ensure_docker || fail "dockerd does not start, see $KUBE_HOME/dockerd.log"
import_pause
# The kubelet takes no loopback address for its node: that of docker's bridge is there on every machine.
address=$(bridge_address)
[[ -n $address ]] || fail "docker's bridge has no address"

kubectl() { "$BIN/kubectl" --kubeconfig "$RUN/admin.kubeconfig" "$@"; }

node_is_ready() { kubectl wait --for=condition=Ready "node/$NODE_NAME" --timeout=1s; }

hand_over() { mkdir -p "$(dirname "$config")" && install -m 600 "$RUN/admin.kubeconfig" "$config"; }

if alive kube-apiserver && alive kubelet && node_is_ready >/dev/null 2>&1; then
  hand_over
  echo "up.sh: runs already; $config"
  exit 0
fi
for name in kubelet kube-proxy kube-scheduler kube-controller-manager kube-apiserver api-on-bridge etcd; do
  stop_one "$name"
done

mkdir -p "$RUN"/{pki,conf,cmd,pid,log,etcd,kubelet,plugins}
chmod 700 "$RUN"
rm -f "$RUN"/log/*.log
[[ -n ${KUBE_KEEP_DATA:-} ]] || rm -rf "$RUN"/etcd/*

save_kernel_settings() {  # that the kubelet changes; down.sh puts them back
  local name
  [[ ! -f $RUN/sysctl.saved ]] || return 0
  for name in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys \
    kernel.keys.root_maxbytes; do
    echo "$name=$(sysctl -n "$name")" >>"$RUN/sysctl.saved"
  done
}

elliptic_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

signed() {  # name, subject, extensions
  elliptic_key "$1.key"
  openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 \
    -extfile <(printf '%b' "$3") -out "$1.crt"
}

make_keys() (
  cd "$RUN/pki"
  rm -rf ./*
  elliptic_key ca.key
  openssl req -x509 -new -key ca.key -subj /CN=kube-rig-ca -days 3650 -out ca.crt \
    -addext 'keyUsage=critical,keyCertSign,cRLSign,digitalSignature'
  signed apiserver /CN=kube-apiserver "extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1,IP:$address,\
IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc\n"
  signed kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client "extendedKeyUsage=clientAuth\n"
  signed proxy-client /CN=front-proxy-client "extendedKeyUsage=clientAuth\n"
  openssl genrsa -out sa.key 2048
  openssl rsa -in sa.key -pubout -out sa.pub
  for user in admin limited controller-manager scheduler node proxy; do openssl rand -hex 16 >"token.$user"; done
  # "limited" has no rights at all: who sees a refusal
  cat >tokens.csv <<TOKENS
$(cat token.admin),admin,1,"system:masters"
$(cat token.limited),limited,2
$(cat token.controller-manager),system:kube-controller-manager,3,"system:masters"
$(cat token.scheduler),system:kube-scheduler,4
$(cat token.node),system:node:$NODE_NAME,5,"system:nodes"
$(cat token.proxy),system:kube-proxy,6
TOKENS
  : >complete
)

kubeconfig() {  # file, user
  cat >"$1" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: kube-rig
  cluster:
    server: https://127.0.0.1:$API_PORT
    certificate-authority-data: $(base64 -w0 "$RUN/pki/ca.crt")
users:
- name: $2
  user: {token: $(cat "$RUN/pki/token.$2")}
contexts:
- name: $2
  context: {cluster: kube-rig, user: $2, namespace: default}
current-context: $2
YAML
  chmod 600 "$1"
}

write_kubelet_config() {  # images cannot be pulled again: none is collected, and only a full disk evicts
  cat >"$RUN/conf/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $address
port: 10250
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: $RUN/pki/ca.crt}
authorization: {mode: AlwaysAllow}
cgroupDriver: $(docker info -f '{{.CgroupDriver}}')
failSwapOn: false
makeIPTablesUtilChains: $([[ -n ${KUBE_PROXY:-} ]] && echo true || echo false)
resolvConf: $([[ -s /etc/resolv.conf ]] && echo /etc/resolv.conf || echo '""')
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
serializeImagePulls: false
eventRecordQPS: 0
nodeStatusUpdateFrequency: 2s
volumePluginDir: $RUN/plugins
YAML
}

program() {  # name; standard input: its command line
  {
    echo '#!/usr/bin/env bash'
    # unless told not to, the kubelet asks the metadata address of clouds for credentials
    echo "export KUBE_RIG_RUN=$RUN AWS_EC2_METADATA_DISABLED=true"
    echo -n 'exec '
    cat
  } >"$RUN/cmd/$1"
  chmod +x "$RUN/cmd/$1"
}

write_programs() {
  program etcd <<WORDS
/usr/bin/etcd --name rig --data-dir $RUN/etcd/data --log-level warn \
 --listen-client-urls http://127.0.0.1:$ETCD_PORT --advertise-client-urls http://127.0.0.1:$ETCD_PORT \
 --listen-peer-urls http://127.0.0.1:$((ETCD_PORT + 1)) \
 --initial-advertise-peer-urls http://127.0.0.1:$((ETCD_PORT + 1)) \
 --initial-cluster rig=http://127.0.0.1:$((ETCD_PORT + 1))
WORDS
  program kube-apiserver <<WORDS
$BIN/kube-apiserver --etcd-servers http://127.0.0.1:$ETCD_PORT \
 --bind-address 127.0.0.1 --secure-port $API_PORT --advertise-address $address \
 --tls-cert-file $RUN/pki/apiserver.crt --tls-private-key-file $RUN/pki/apiserver.key \
 --client-ca-file $RUN/pki/ca.crt --token-auth-file $RUN/pki/tokens.csv \
 --authorization-mode Node,RBAC --anonymous-auth=true --enable-admission-plugins NodeRestriction \
 --kubelet-client-certificate $RUN/pki/kubelet-client.crt --kubelet-client-key $RUN/pki/kubelet-client.key \
 --kubelet-preferred-address-types InternalIP \
 --service-account-issuer https://kubernetes.default.svc --service-account-key-file $RUN/pki/sa.pub \
 --service-account-signing-key-file $RUN/pki/sa.key --service-cluster-ip-range $SERVICE_CIDR \
 --proxy-client-cert-file $RUN/pki/proxy-client.crt --proxy-client-key-file $RUN/pki/proxy-client.key \
 --allow-privileged=true --feature-gates TTLAfterFinished=true --profiling=false
WORDS
  program kube-controller-manager <<WORDS
$BIN/kube-controller-manager --kubeconfig $RUN/controller-manager.kubeconfig \
 --leader-elect=false --port 0 --bind-address 127.0.0.1 --cert-dir $RUN/pki/kcm \
 --controllers '*,-nodeipam,-route,-service,-cloud-node-lifecycle,-bootstrapsigner,-tokencleaner' \
 --service-account-private-key-file $RUN/pki/sa.key --root-ca-file $RUN/pki/ca.crt \
 --feature-gates TTLAfterFinished=true --profiling=false
WORDS
  program kube-scheduler <<WORDS
$BIN/kube-scheduler --kubeconfig $RUN/scheduler.kubeconfig --leader-elect=false --port 0 \
 --bind-address 127.0.0.1 --cert-dir $RUN/pki/scheduler --profiling=false
WORDS
  program kubelet <<WORDS
$BIN/kubelet --config $RUN/conf/kubelet.yaml --kubeconfig $RUN/node.kubeconfig \
 --hostname-override $NODE_NAME --node-ip $address --root-dir $RUN/kubelet --cert-dir $RUN/pki/kubelet \
 --oom-score-adj 0 --container-runtime docker --network-plugin= --pod-infra-container-image $PAUSE_IMAGE
WORDS
  program kube-proxy <<WORDS
$BIN/kube-proxy --kubeconfig $RUN/proxy.kubeconfig --hostname-override $NODE_NAME \
 --oom-score-adj 0 --proxy-mode iptables --bind-address $address --healthz-bind-address 127.0.0.1:10256 \
 --metrics-bind-address 127.0.0.1:10249
WORDS
  # the API server listens on loopback alone; pods find it here
  program api-on-bridge <<WORDS
socat TCP-LISTEN:$API_PORT,bind=$address,fork,reuseaddr TCP:127.0.0.1:$API_PORT
WORDS
}

wait_for() {  # seconds, what, command...
  local tries=$(($1 * 5)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((tries-- > 0)) || { tail -n 20 "$RUN"/log/*.log >&2; fail "$what: not after a long wait; logs are in $RUN/log"; }
    sleep 0.2
  done
}

api_is_ready() {
  curl -sf --cacert "$RUN/pki/ca.crt" -H "Authorization: Bearer $(cat "$RUN/pki/token.admin")" \
    "https://127.0.0.1:$API_PORT/readyz"
}

trap 'echo "up.sh: failed; logs are in $RUN/log" >&2' ERR
save_kernel_settings
if [[ ! -f $RUN/pki/complete ]]; then make_keys >"$RUN/log/pki.log" 2>&1; fi
for user in admin limited controller-manager scheduler node proxy; do kubeconfig "$RUN/$user.kubeconfig" "$user"; done
write_kubelet_config
write_programs
start_one etcd
wait_for 30 "etcd is healthy" curl -sf "http://127.0.0.1:$ETCD_PORT/health"
start_one kube-apiserver
start_one api-on-bridge
wait_for 90 "the API server is ready" api_is_ready
for name in kube-controller-manager kube-scheduler kubelet; do start_one "$name"; done
[[ -z ${KUBE_PROXY:-} ]] || start_one kube-proxy
write_pids
wait_for 60 "the default service account is there" kubectl get serviceaccount default -o name
wait_for 120 "node $NODE_NAME is ready" node_is_ready
hand_over
echo "up.sh: runs; $config (a user without rights: $RUN/limited.kubeconfig)"
