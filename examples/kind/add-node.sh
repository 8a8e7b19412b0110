#!/bin/sh
# Adds a node with this agent to a kind cluster.
#
#   add-node.sh BINARY [CLUSTER [NODE]]      (defaults: kind, CLUSTER-node-agent)
#
# BINARY is node-agent as `cargo build --release` makes it. The node's image is that of the cluster's first node, so
# containerd and its tools fit; `kind delete cluster` takes the node away with the others.
set -eu

[ $# -ge 1 ] || { echo "usage: $0 BINARY [CLUSTER [NODE]]" >&2; exit 2; }
binary=$1 cluster=${2:-kind}
node=${3:-$cluster-node-agent}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$binary" "$work/node-agent"
cp "$here/Dockerfile" "$here/config.yaml" "$here/20-node-agent.conf" "$here/10-pods.conflist" "$work"
base=$(docker inspect --format '{{.Config.Image}}' "$cluster-control-plane")
docker build --quiet --build-arg "NODE_IMAGE=$base" --tag node-agent-kind "$work"

kind get kubeconfig --name "$cluster" >"$work/admin.conf"
KUBECONFIG=$work/admin.conf "$here/login.sh" "$node" "$work/login" "https://$cluster-control-plane:6443"

# As kind makes its own nodes.
docker create --name "$node" --hostname "$node" --net kind --tty --privileged --cgroupns=private \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
    --tmpfs /tmp --tmpfs /run --volume /var --volume /lib/modules:/lib/modules:ro \
    --label "io.x-k8s.kind.cluster=$cluster" --label io.x-k8s.kind.role=worker node-agent-kind
docker cp "$work/login/." "$node:/etc/kubernetes"
docker start "$node"
KUBECONFIG=$work/admin.conf kubectl wait --for=create --timeout=60s "node/$node"
KUBECONFIG=$work/admin.conf kubectl wait --for=condition=Ready --timeout=60s "node/$node"
