"""Certificates for Ingresses that ask by annotation, as cert-manager's ingress-shim has made usual.

Belongs here: which Certificates an Ingress asks for, and keeping those that it owns true.
Never belongs here: keys, Secrets and issuance, which are the Certificate's; an Ingress is never written to.
Source: cert-manager.io/docs/usage/ingress for the names of the annotations.
"""
