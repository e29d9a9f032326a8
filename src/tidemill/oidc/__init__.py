"""The client's side of OpenID Connect Core 1.0: the authorization code flow with PKCE, with one provider.

``asking`` is HTTP, ``keys`` and ``id_token`` are what is believed and why, ``provider`` is the flow.
"""
