//! A private containerd, registry and key broker in network namespaces of their own.
