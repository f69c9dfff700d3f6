//! The kubeconfig file.
