"""The command `posttrain doctor`."""

import typer

from pipeline.cli.app import RUNS, Runs, app, console
from pipeline.errors import InfrastructureError

_STYLES = {"ok": "green", "absent": "yellow", "broken": "red"}


@app.command()
def doctor(runs: Runs = RUNS) -> None:
    """Check versions, devices, memory, sandbox and optional parts.

    Says how to get what is missing.
    """
    from rich.table import Table
    from rich.text import Text

    from pipeline.commands.doctor import examine

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    section, broken = "", 0
    for finding in examine(runs):
        broken += finding.state == "broken"
        lines = [finding.says, *([finding.hint] if finding.hint else [])]
        table.add_row(
            finding.section if finding.section != section else "",
            Text(finding.name),
            Text(finding.state, style=_STYLES[finding.state]),
            Text("\n".join(lines)),
        )
        section = finding.section
    console().print(table)
    if broken:
        message = f"{broken} of these {'is' if broken == 1 else 'are'} broken"
        raise InfrastructureError("doctor", message, "see the hint below each")
    typer.echo("nothing is broken; an absent part is needed only for what its line says")
