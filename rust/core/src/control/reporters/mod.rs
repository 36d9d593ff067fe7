//! Plugins that tell the gateway about finished requests. One file each.

pub mod request_attribute;
