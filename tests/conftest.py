"""What every test stands on."""

import signal

# A runner that was put into the background may have told us to ignore SIGINT; what tests start would inherit that, and
# Ctrl-C is something that they test.
signal.signal(signal.SIGINT, signal.default_int_handler)
