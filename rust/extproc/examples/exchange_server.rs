//! The native host with sessions that decide among static endpoints, to be measured against `echo_server`: `exchange_server 127.0.0.1:9002 [threads [endpoints]]`.
//!
//! The endpoints are never asked for anything; each is taken to have room for 6,750 blocks of 64 tokens.

use std::collections::BTreeMap;
use std::env::args;
use std::error::Error;
use std::io::{Read, stdin};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use warmroute_core::Engine;
use warmroute_core::engine::{PolicySpec, Settings};
use warmroute_core::plugin::{Externals, PluginSpec};
use warmroute_core::pool::EndpointIdentity;
use warmroute_extproc::host::{NativeServer, ServerOptions};
use warmroute_extproc::{ExchangeFactory, now};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = args().skip(1);
    let address = arguments
        .next()
        .ok_or("usage: exchange_server ADDRESS [THREADS [ENDPOINTS]]")?;
    let mut options = ServerOptions::new(address.parse()?);
    if let Some(threads) = arguments.next() {
        options.workers = threads.parse()?;
    }
    let endpoints: u8 = arguments
        .next()
        .map_or(Ok(8), |endpoints| endpoints.parse())?;
    let mut policy = PolicySpec::default_policy();
    policy.plugins.push(
        PluginSpec::of_type("approx-prefix-cache-producer").with("lruCapacityPerServer", 6_750),
    );
    let engine = Engine::new(Settings::default(), &policy, &Externals::new(), now)?;
    for number in 0..endpoints {
        engine.upsert_endpoint(EndpointIdentity {
            namespace: "default".into(),
            name: format!("endpoint-{number}").into(),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)),
            port: 8000,
            metrics_host: None,
            labels: BTreeMap::new(),
        })?;
    }
    engine.maintain();
    let engine = Arc::new(engine);
    let factory = ExchangeFactory::new(Arc::clone(&engine));
    let mut server = NativeServer::start(&options, Arc::new(factory))?;
    println!(
        "listening on {}; ends with standard input",
        server.address()
    );
    stdin().read_to_end(&mut Vec::new())?;
    server.stop(Duration::from_secs(1));
    println!("{:?} {:?}", server.statistics(), engine.index_usage());
    Ok(())
}
