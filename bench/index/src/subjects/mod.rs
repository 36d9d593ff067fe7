//! The indexes under test, one a file.

pub mod dynamo;
pub mod dynamo_threaded;
pub mod naive;
pub mod ours;
pub mod smg;
