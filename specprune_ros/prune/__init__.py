"""Which visual tokens to keep: layout, budgets, static and dynamic selection, mode controller."""
