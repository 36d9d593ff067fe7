//! `measure SUBJECT [--trace FILE] [--verify]`: takes one index through everything and prints its figures as one JSON object.

use std::path::PathBuf;
use std::process::ExitCode;

use dynamo_kv_router::{ConcurrentRadixTreeCompressed, PositionalIndexer};
use index_bench::allocator::Counting;
use index_bench::measure::{Report, run};
use index_bench::subject::Subject;
use index_bench::subjects::dynamo::Tree;
use index_bench::subjects::dynamo_threaded::Threaded;
use index_bench::subjects::naive::Naive;
use index_bench::subjects::smg::Smg;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Run = fn(Option<&std::path::Path>, bool) -> std::io::Result<Report>;

fn subjects() -> [(&'static str, Run); 6] {
    fn of<S: Subject>() -> (&'static str, Run) {
        (S::NAME, run::<S>)
    }
    [
        of::<Naive>(),
        of::<Smg<false>>(),
        of::<Smg<true>>(),
        of::<Tree>(),
        of::<Threaded<PositionalIndexer>>(),
        of::<Threaded<ConcurrentRadixTreeCompressed>>(),
    ]
}

fn main() -> ExitCode {
    match measure(std::env::args().skip(1)) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("measure: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut arguments: impl Iterator<Item = String>) -> Result<String, String> {
    let names = || subjects().map(|(name, _)| name).join(", ");
    let (mut chosen, mut trace, mut verify) = (None, None, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--verify" => verify = true,
            "--trace" => trace = Some(PathBuf::from(arguments.next().ok_or("--trace needs the path of a trace")?)),
            name => match subjects().into_iter().find(|(known, _)| *known == name) {
                Some((_, run)) => chosen = Some(run),
                None => return Err(format!("there is no index `{name}`; there are {}", names())),
            },
        }
    }
    let run = chosen.ok_or_else(|| format!("say which index: {}", names()))?;
    let report = run(trace.as_deref(), verify).map_err(|error| format!("the trace cannot be read: {error}"))?;
    serde_json::to_string(&report).map_err(|error| error.to_string())
}
