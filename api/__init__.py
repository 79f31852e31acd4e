"""The HTTP doors: one folder per protocol, each with its routes and one total table from error codes to its wire form.

Belongs here: authenticating a request, translating it, translating the answer.
Never belongs here: a rule about certificates, a signature, an SQL statement. If a rule must hold for two doors, it
lives below them. One protocol's folder never imports another's.
Below: `spork.services`.

Import it as `spork.api`: `spork/api` is a link to this folder.
"""
