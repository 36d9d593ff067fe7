//! `measure SUBJECT [--trace FILE] [--verify]`: takes one index through everything and prints its figures as one JSON object.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use index_bench::allocator::Counting;
use index_bench::measure::run;
use index_bench::report::Report;
use index_bench::roster::{Visit, visit_all};
use index_bench::subject::Subject;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Run = fn(Option<&Path>, bool) -> std::io::Result<Report>;

struct Named(Vec<(&'static str, Run)>);

impl Visit for Named {
    fn visit<S: Subject>(&mut self) {
        self.0.push((S::NAME, run::<S>));
    }
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
    let mut subjects = Named(Vec::new());
    visit_all(&mut subjects);
    let names = || {
        subjects
            .0
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (mut chosen, mut trace, mut verify) = (None, None, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--verify" => verify = true,
            "--trace" => {
                trace = Some(PathBuf::from(
                    arguments
                        .next()
                        .ok_or("--trace needs the path of a trace")?,
                ));
            }
            name => match subjects.0.iter().find(|(known, _)| *known == name) {
                Some((_, run)) => chosen = Some(*run),
                None => return Err(format!("there is no index `{name}`; there are {}", names())),
            },
        }
    }
    let run = chosen.ok_or_else(|| format!("say which index: {}", names()))?;
    let report = run(trace.as_deref(), verify)
        .map_err(|error| format!("the trace cannot be read: {error}"))?;
    serde_json::to_string(&report).map_err(|error| error.to_string())
}
