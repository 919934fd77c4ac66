"""Pictures painted by optimising their pixels (Gatys et al., 2016)."""
