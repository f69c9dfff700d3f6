//! Containers: namespaces, cgroups, a root file system and a network of their own.

pub(crate) mod cgroup;
pub(crate) mod network;
pub(crate) mod sandbox;
pub(crate) mod seccomp;
