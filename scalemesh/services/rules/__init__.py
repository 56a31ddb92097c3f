"""The rule files that a site brings, compiled into their one normal form: once, at publish."""
