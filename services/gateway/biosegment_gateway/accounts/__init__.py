"""Who signs in, and with what: users, passwords, sessions, API tokens, an identity provider."""
