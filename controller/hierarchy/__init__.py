"""Hierarchy resources: who declares which CA, what a change would do, and doing it once it may be done.

Belongs here: reading Hierarchies from the cluster's copy, decisions about them, and their status.
Never belongs here: signing. What needs a CA's key is left to the signer as a job of `services.building`.
Below: `spork.hierarchy`, which plans, and `spork.services`.
"""
