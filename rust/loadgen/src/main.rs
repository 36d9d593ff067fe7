//! `warmroute-loadgen`: one subcommand per kind of load, and `upstream`, what the load is answered by.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use warmroute_loadgen::error::LoadError;
use warmroute_loadgen::extproc::{self, ExtprocOptions};
use warmroute_loadgen::http_load::{self, HttpOptions};
use warmroute_loadgen::report::Report;
use warmroute_loadgen::upstream::{self, UpstreamOptions};

/// Load for endpoint pickers and gateways.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Drive an `ext_proc` server as Envoy does.
    Extproc {
        #[command(flatten)]
        options: ExtprocOptions,
        #[command(flatten)]
        output: Output,
    },
    /// Post chat completions to an HTTP/1.1 gateway.
    Http {
        #[command(flatten)]
        options: HttpOptions,
        #[command(flatten)]
        output: Output,
    },
    /// Stand in for model servers; prints its addresses as JSON and dies with its parent.
    Upstream(UpstreamOptions),
}

#[derive(Args)]
struct Output {
    /// File for the report; standard output without it.
    #[arg(long)]
    json: Option<PathBuf>,
    /// End with status 1 when any request failed.
    #[arg(long)]
    fail_on_error: bool,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Extproc { options, output } => {
            extproc::run(&options).and_then(|report| output.write(&report))
        }
        Command::Http { options, output } => {
            http_load::run(&options).and_then(|report| output.write(&report))
        }
        Command::Upstream(options) => upstream::run(&options).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("warmroute-loadgen: {error}");
        ExitCode::from(2)
    })
}

impl Output {
    fn write(&self, report: &Report) -> Result<ExitCode, LoadError> {
        let mut text = serde_json::to_string_pretty(report)
            .map_err(|error| LoadError::Io("cannot encode the report".to_owned(), error.into()))?;
        text.push('\n');
        match &self.json {
            Some(path) => std::fs::write(path, text)
                .map_err(LoadError::io(format!("cannot write {}", path.display())))?,
            None => std::io::stdout()
                .write_all(text.as_bytes())
                .map_err(LoadError::io("cannot write the report"))?,
        }
        Ok(if self.fail_on_error && report.error_count > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}
