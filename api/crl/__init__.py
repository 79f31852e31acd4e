"""The CRL door: revocation lists and CA certificates over plain HTTP, and the loop that keeps the lists fresh.

Belongs here: paths, caching headers, when to look for lists that are due.
Never belongs here: what a list contains (`spork.issuance.publish`), its encoding, SQL.
Below: `spork.services`.
"""
