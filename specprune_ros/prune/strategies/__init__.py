"""Which visual tokens are kept: the method, and what it is compared with (docs/reference/strategies.md)."""
