#!/bin/sh
# Makes a login for a node: a key, a certificate signed by the cluster, and a kubeconfig that holds both.
#
#   login.sh NODE FOLDER [SERVER]
#
# writes FOLDER/kubelet.conf and FOLDER/pki/ca.crt. It needs kubectl with an administrator's kubeconfig, openssl, and
# in the cluster a controller manager that signs (kubeadm and kind have one). SERVER is the API server's URL as the
# node sees it; default is that of the administrator.
set -eu
umask 077

[ $# -ge 2 ] || { echo "usage: $0 NODE FOLDER [SERVER]" >&2; exit 2; }
node=$1 folder=$2
server=${3:-$(kubectl config view --minify --output 'jsonpath={.clusters[0].cluster.server}')}
request=node-agent-$node

mkdir -p "$folder/pki"
# With --flatten a CA that the kubeconfig names as a file is there, too.
kubectl config view --raw --minify --flatten \
    --output 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d >"$folder/pki/ca.crt"
[ -s "$folder/pki/ca.crt" ] || { echo "$0: the administrator's kubeconfig names no CA" >&2; exit 1; }

# The name and group are what the Node authorizer knows a node by.
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=system:nodes/CN=system:node:$node" \
    -keyout "$folder/node.key" -out "$folder/node.csr" 2>"$folder/openssl.log" ||
    { cat "$folder/openssl.log" >&2; exit 1; }

kubectl delete certificatesigningrequest "$request" --ignore-not-found >/dev/null
kubectl create --filename - <<END
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata:
  name: $request
spec:
  signerName: kubernetes.io/kube-apiserver-client-kubelet
  usages: [digital signature, client auth]
  request: $(base64 <"$folder/node.csr" | tr -d '\n')
END
kubectl certificate approve "$request"

tries=0
until kubectl get certificatesigningrequest "$request" --output 'jsonpath={.status.certificate}' |
    base64 -d >"$folder/node.crt" && [ -s "$folder/node.crt" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 60 ] || { echo "$0: nobody has signed the request $request within a minute" >&2; exit 1; }
    sleep 1
done
kubectl delete certificatesigningrequest "$request" >/dev/null

config() { kubectl config --kubeconfig "$folder/kubelet.conf" "$@" >/dev/null; }
rm -f "$folder/kubelet.conf"
config set-cluster cluster --server "$server" --certificate-authority "$folder/pki/ca.crt" --embed-certs
config set-credentials "$node" --client-certificate "$folder/node.crt" --client-key "$folder/node.key" --embed-certs
config set-context node --cluster cluster --user "$node"
config use-context node
rm -f "$folder/node.key" "$folder/node.csr" "$folder/node.crt" "$folder/openssl.log"
echo "wrote $folder/kubelet.conf for $node at $server"
