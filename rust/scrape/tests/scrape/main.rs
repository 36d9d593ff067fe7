//! The scraper against real servers on loopback, good ones and bad ones.

mod certificates;
mod pages;
mod server;
mod sources;
mod support;
mod tls;
