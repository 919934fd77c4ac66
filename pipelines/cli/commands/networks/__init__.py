"""Commands for networks and for what is known of them."""
