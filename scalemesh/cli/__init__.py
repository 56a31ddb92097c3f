"""The command line: parse, one call, print. Each verb is imported when it is used, so that the start stays quick."""
