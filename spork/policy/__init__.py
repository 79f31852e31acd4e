"""Decisions: may this certificate be issued? Pure rules over a `Proposal`, each giving a `Violation` or None.

Belongs here: proposals, rules, name patterns, key strength, administrator levels. Never here: I/O, time that is read rather
than passed in, signatures, storage. Below it stands `x509`.
"""
