"""cert-manager's CertificateRequests whose issuer is one of ours: what its documentation calls an external issuer.

Belongs here: when a request is signed, refused or left alone, and its status in cert-manager's words.
Never belongs here: approval, which is somebody else's to give; other groups' requests.
Source: cert-manager.io/docs/contributing/external-issuers and docs/usage/certificaterequest.
"""
