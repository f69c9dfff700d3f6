//! CustomResourceDefinitions: accepted, established and removed.
