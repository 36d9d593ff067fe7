"""`python -m warmroute.sim`: the same as `warmroute sim`."""

import typer

from warmroute.cli.sim import sim

typer.run(sim)
