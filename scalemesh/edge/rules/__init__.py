"""The rules of sites, interpreted: one walk for all dialects, and what differs between them."""
