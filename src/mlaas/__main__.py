"""`python -m mlaas`."""

from mlaas.cli.main import run

run()
