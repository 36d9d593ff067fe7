//! Plugins that add to the headers of the response. One file each.

pub mod destination_endpoint_served_verifier;
