"""What every test stands on."""

import signal

from hypothesis import HealthCheck, settings

# A runner that was put into the background may have told us to ignore SIGINT; what tests start would inherit that, and
# Ctrl-C is something that they test.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes tells how busy the machine is: what may not take long is measured by tests of its own.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
