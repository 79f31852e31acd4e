"""PostgreSQL: one module per aggregate, numbered migrations, and the bundled server.

Belongs here: every SQL statement of SPORK, beside the function that runs it, and the implementations of the store ports
of `spork.issuance`.
Never belongs here: a decision. The store says whether a row was there; what that means is decided below or above.
Below: `spork.issuance`.
"""
