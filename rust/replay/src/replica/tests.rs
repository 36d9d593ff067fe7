//! Properties of the replica under any arrivals.
