"""`cx`: the commands of who trades are in `commands.py`, of leases in `leases.py`, of
money in and out in `payments.py`, of spend and caps in `spending.py`, of months in `invoices.py`, of metered use in
`usage.py`, of one's own server in `webhooks.py`, of an exchange's admin in `admin.py`; those of who runs one in
`operate.py`, which is loaded only when one of them is called, so that the others start at once."""

import os
import sys
from typing import Literal

import cyclopts

from gateways.cli import admin, invoices, leases, payments, settings, spending, suppliers, usage, webhooks
from gateways.cli.commands import app as app

READER_GONE = 141
"""Exit code, as of a process that SIGPIPE ended."""
PROCESSES = "One process of an exchange on Kafka, each alone"

dev = cyclopts.App(name="dev", help="For developing on this machine.")
dev.command("gateways.cli.operate:kafka", help="Run a Kafka broker of one's own.")
app.command(dev)
app.command(admin.app)
app.command("gateways.cli.supply:app", name="supply", help="Sell from a price list: the book is made equal to it.")
app.command(spending.app)
app.command(spending.spend)
app.command(spending.daily_credits)
for command in (
    leases.leases,
    leases.lease,
    leases.deliver,
    leases.accept,
    leases.end,
    leases.degrade,
    leases.restore,
    leases.reclaim,
    leases.extend,
    leases.renew,
):
    app.command(command)
app.command(suppliers.suppliers)
app.command(webhooks.app)
for of_money in (payments.withdraw, payments.withdrawals, payments.deposits, payments.entries, payments.fees):
    app.command(of_money)
app.command(usage.usage)
app.command("gateways.cli.meter:meter", help="Meter leases on a node by its dcgm-exporter, and report them.")
for command in (invoices.invoice, invoices.statement, invoices.correct, invoices.corrections):
    app.command(command)
app.command("gateways.cli.focus:focus", help="Write what you bought in a month as FOCUS 1.2, for cost tools.")
app.command("gateways.cli.watch:watch", help="Show a class, or your own orders, as things happen, until Ctrl-C.")
app.command(settings.config)
app.command("gateways.cli.operate:up", help="Run a whole exchange in one process.")
app.command("gateways.cli.operate:play", help="Run an exchange and play a market on it.")
app.command("gateways.cli.operate:audit", help="Prove that the money adds up and that all of it agrees.")
app.command("gateways.cli.operate:replay", help="Fold the log again: prove every answer, or show a book of the past.")
app.command("gateways.cli.operate:snapshot", help="Write an engine's snapshot from the log.", group=PROCESSES)
app.command("gateways.cli.operate:engine", help="Match one partition's orders.", group=PROCESSES)
app.command("gateways.cli.operate:settlement", help="Turn executions into leases and money.", group=PROCESSES)
app.command("gateways.cli.operate:marketdata", help="Publish the public stream of fills.", group=PROCESSES)
app.command("gateways.cli.operate:gateway", help="Serve the HTTP API.", group=PROCESSES)
app.command("gateways.cli.operate:deliverer", help="Tell customers' servers what happens.", group=PROCESSES)
app.command(
    "gateways.cli.operate:print_secret", name="new-secret", help="Print a new secret for gateways.", group=PROCESSES
)
app.command("gateways.cli.operate:admin_key", help="Print a new key of the exchange's own account.", group=PROCESSES)


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print what makes a shell complete cx: source <(cx completion bash), or with zsh; cx completion fish | source."""
    print(app.generate_completion(prog_name="cx", shell=shell), end="")


def run() -> None:
    """The command `cx`. Whoever reads its output may stop early."""
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be written at exit
        sys.exit(READER_GONE)


if __name__ == "__main__":
    run()
