"""Private keys: how they are stored, opened and used. Nothing else in SPORK ever holds a CA's private key.

Belongs here: implementations of the signer port of `spork.issuance`, key encryption, passphrases.
Never belongs here: SQL, and any log line, error or representation that carries key material.
Below: `spork.issuance`.
"""
