//! The pyo3 module `warmroute._core`.
use pyo3::prelude::*;

/// The engine of warmroute.
#[pymodule]
#[pyo3(name = "_core")]
mod core_module {}
