"""Ceremony resources: for now nothing but an honest status.

Belongs here: the status of a Ceremony.
Never belongs here: approvals and signatures, which belong to the engine of ceremonies.
Below: `spork.ceremony`.
"""
