"""The control host over HTTP: API, live logs, metrics, and what builders talk to."""
