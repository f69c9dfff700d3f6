//! Runs pods: images, containers, probes, volumes, logs.

pub mod spawner;
mod sys;
