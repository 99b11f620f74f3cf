"""A real Kubernetes on one machine, for the demo and the tests.

The control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler) runs as ordinary
processes of the caller; with `node`, root adds one real node: containerd, kubelet, kube-proxy,
pod network and CoreDNS. Everything is built from pinned Go modules or taken from Debian packages.
Only the standard library is used here, so that it runs before any environment is set up.
"""
