#!/usr/bin/env bash
# Runs each fuzz target for SECONDS (default 10) with libFuzzer. Needs a nightly toolchain (sanitizer coverage) and a C++ compiler (libFuzzer itself);
# says what is missing and ends well without them, so that a stable-only machine still passes its tests.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${SECONDS_PER_TARGET:-10}
if ! cargo +nightly --version >/dev/null 2>&1; then
  echo "fuzz: skipped, no nightly toolchain (rustup toolchain install nightly)"
  exit 0
fi
if ! command -v c++ >/dev/null; then
  echo "fuzz: skipped, no C++ compiler for libFuzzer (apt-get install g++)"
  exit 0
fi
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions=on --cfg fuzzing"
for folder in rust/core/fuzz rust/extproc/fuzz; do
  target=$PWD/target/fuzz
  RUSTFLAGS=$flags cargo +nightly build --quiet --release --manifest-path "$folder/Cargo.toml" --target-dir "$target" --target "$(rustc -vV | sed -n 's/^host: //p')"
  for source in "$folder"/fuzz_targets/*.rs; do
    name=$(basename "$source" .rs)
    corpus=$target/corpus/$name
    mkdir -p "$corpus"
    binary=$(find "$target" -path '*/release/*' -name "$name" -type f -perm -u+x | head -n 1)
    log=$target/$name.log
    if ! "$binary" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -verbosity=0 -print_final_stats=1 \
      -artifact_prefix="$target/$name-" "$corpus" >"$log" 2>&1; then
      echo "fuzz: $name: failed; the input that did it is named below" >&2
      tail -n 40 "$log" >&2
      exit 1
    fi
    sed -n "s/^stat::number_of_executed_units: */fuzz: $name: inputs tried: /p" "$log"
  done
done
