"""Codecs for what travels (JOSE, CMS, EST, SCEP, CMP, time stamps): bytes on one side, frozen values on the other.

Belongs here: parsing and building messages, and the cryptographic checks that need nothing but the message and a key.
Never belongs here: HTTP, a database, a decision. A codec says what a message claims; whether to believe it is for
others.
Below: `spork.x509`.
"""
