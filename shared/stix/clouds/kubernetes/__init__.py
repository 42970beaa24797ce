"""Kubernetes clusters; a region is a context of the kubeconfig."""
