"""X.509 itself: names, extensions, templates, CRLs, OCSP responses and the algorithms that sign them.

Belongs here: pure functions and frozen values between DER and Python. Time, serial numbers and signatures come in as
arguments.
Never belongs here: a socket, a database, a private key held longer than a call, a setting, an opinion about who may
have what.
Below: `spork.errors`, `spork.ids` and `spork.clock`.
"""
