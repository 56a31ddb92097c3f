"""The dashboard: server-rendered pages on the control host."""
