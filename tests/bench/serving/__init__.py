"""Measures how sites are served, beside nginx, Caddy and a bare loop in C."""
