"""What HAProxy runs for requests that come while there is no replica, in Lua."""

from __future__ import annotations

WAITING = """\
-- A request that finds no ready replica waits for one. Looking ten times a second costs less than being told.
-- Each one counts itself once in every tenth of a second: one whose client has left does so no longer, and no
-- count is ever left over. lua-load has one state for all threads, so the counts are the process's.
local counts = {}

local function seconds_now()
  local now = core.now()
  return now.sec + now.usec / 1000000
end

local function tick()
  return math.floor(seconds_now() * 10)
end

local function waiting(name)
  local tenth, count = tick(), counts[name]
  if not count then return 0 end
  if count.tenth == tenth then return math.max(count.now, count.before) end
  return count.tenth == tenth - 1 and count.now or 0
end

local function note(name)
  local tenth, count = tick(), counts[name]
  if not count or count.tenth ~= tenth then
    counts[name] = { tenth = tenth, now = 1, before = waiting(name) }
  else
    count.now = count.now + 1
  end
end

core.register_action("wait_for_replica", {"http-req"}, function(txn, name, seconds, most)
  if waiting(name) >= tonumber(most) then
    txn:set_var("txn.refused", true)
    return
  end
  local deadline = seconds_now() + tonumber(seconds)
  while seconds_now() < deadline and txn.f:stopping() == 0 and txn.f:nbsrv(name) == 0 do
    note(name)
    core.msleep(100)
  end
end, 3)

local usage = "show waiting : requests that wait for a first replica"
core.register_cli({"show", "waiting"}, usage, function(applet)
  for name in pairs(counts) do applet:send(name .. " " .. waiting(name) .. "\\n") end
end)
"""
