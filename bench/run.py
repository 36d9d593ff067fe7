"""Measures what bench/README.md shows: raw results to bench/results/, then the page. `make bench` runs all of it."""

import argparse
import sys
import time
from collections.abc import Callable

import page
from harness import envoy, extproc, index, pick, plugin, results, scrape
from harness.errors import BenchError
from harness.results import Json, Settings, Usage

SECTIONS: dict[str, Callable[[Settings], Json]] = {
    "extproc": extproc.measure,
    "scrape": scrape.measure,
    "envoy": envoy.measure,
    "pick": pick.measure,
    "plugin": plugin.measure,
    "index": index.measure,
}


def main() -> int:
    options = _parse()
    settings = Settings(rounds=1, seconds=1.0, warmup=0.3) if options.quick else Settings(rounds=options.rounds, seconds=options.seconds)
    failed = False
    for name in options.only:
        start = time.monotonic()
        print(f"{name}: measuring ...", flush=True)
        try:
            before = Usage.now()
            content = SECTIONS[name](settings)
            path = results.write(name, settings, before.others_until(Usage.now()), content)
        except BenchError as error:
            # The other sections are still worth their time; results of an earlier run stay, with their own date.
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            failed = True
        else:
            print(f"{name}: {path.name} after {time.monotonic() - start:.0f} s", flush=True)
    page.main()
    print(f"page: {page.PAGE.name}")
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", type=_sections, default=list(SECTIONS), metavar="SECTION,…", help=f"sections to measure: {', '.join(SECTIONS)} (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="paired rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured seconds of each load (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: shows that the benches work, not how fast anything is")
    options = parser.parse_args()
    if options.rounds < 1 or not 0 < options.seconds <= 60:
        parser.error("--rounds must be at least 1, --seconds above 0 and at most 60")
    return options


def _sections(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
