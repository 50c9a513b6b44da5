"""Keys, signers beside their verifiers, and what an auditor trusts."""
