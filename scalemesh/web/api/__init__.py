"""REST under /api/v1, one file per noun: parse, call a service, render."""
