"""A cluster for tests: an emulated API server, a kubelet that runs pods as local processes.

With KUBECONFIG set, the fixtures hand out that cluster instead of the emulator; its own controllers
are at work then, and pods still run as processes here, so it needs no nodes.
"""
