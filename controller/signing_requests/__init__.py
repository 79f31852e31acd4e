"""Kubernetes' own CertificateSigningRequests whose signer is one of our issuers.

`spork-ca.org/<namespace>.<issuer>` names an Issuer, `spork-ca.org/<name>` a ClusterIssuer: neither namespaces nor issuers have
dots in their names.
Belongs here: when a request is signed, refused or left alone, and its status in Kubernetes' words.
Never belongs here: approval, which is somebody else's to give; other signers' requests.
Source: Kubernetes certificates.k8s.io/v1, "Certificates and Certificate Signing Requests".
"""
