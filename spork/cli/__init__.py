"""The command line: one module per command group, loaded only when that group is used.

Belongs here: arguments, terminal output, exit codes.
Never belongs here: a rule, an SQL statement, a signature. A command calls a layer below and shows what it answered.
Below: `spork.api` and `spork.controller`, then everything under them.
"""
