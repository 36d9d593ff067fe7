//! The native host with sessions that decide nothing, for measuring the transport alone: `echo_server 127.0.0.1:9002 [threads]`.

use std::env::args;
use std::error::Error;
use std::io::{Read, stdin};
use std::sync::Arc;
use std::time::Duration;

use warmroute_extproc::EchoFactory;
use warmroute_extproc::host::{NativeServer, ServerOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = args().skip(1);
    let address = arguments
        .next()
        .ok_or("usage: echo_server ADDRESS [THREADS]")?;
    let mut options = ServerOptions::new(address.parse()?);
    if let Some(threads) = arguments.next() {
        options.workers = threads.parse()?;
    }
    let mut server = NativeServer::start(&options, Arc::new(EchoFactory::default()))?;
    println!(
        "listening on {}; ends with standard input",
        server.address()
    );
    stdin().read_to_end(&mut Vec::new())?;
    server.stop(Duration::from_secs(1));
    println!("{:?}", server.statistics());
    Ok(())
}
