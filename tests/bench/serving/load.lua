-- The load for wrk: `wrk … -s load.lua URL -- FOLDER`. What is asked is in FOLDER, written by load.py:
--   plan.lua  heads (a request up to the host name), tails (what follows it), and whether requests are made ahead
--   hosts     the host names, NUL-separated; one may be followed by header lines of its own
--   draws     which (host, request) comes next, as 32-bit numbers host * #heads + request; begun anew at its end
local ffi = require("ffi")
local heads, tails, hosts, made, is_kept, bytes, draws, count
local number = 0

local function content(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(arguments)
  local folder = arguments[1]
  local plan = dofile(folder .. "/plan.lua")
  heads, tails, is_kept, made, hosts = plan.heads, plan.tails, plan.keep, {}, {}
  for host in content(folder .. "/hosts"):gmatch("[^%z]+") do hosts[#hosts + 1] = host end
  bytes = content(folder .. "/draws")  -- held, or the collector frees what draws points at
  draws, count = ffi.cast("const uint32_t *", bytes), #bytes / 4
end

function request()
  local draw = draws[number]
  number = number + 1
  if number == count then number = 0 end
  local text = made[draw]
  if text then return text end
  local which = draw % #heads
  text = heads[which + 1] .. hosts[(draw - which) / #heads + 1] .. tails[which + 1]
  if is_kept then made[draw] = text end
  return text
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "duration_us": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d, ' ..
    '"timeout": %d, "status": %d, "p50_us": %d, "p99_us": %d}\n',
    summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write,
    errors.timeout, errors.status, latency:percentile(50), latency:percentile(99)))
end
