-- The notes of a cluster's nodes: a hash from node to "expiry (ms) pressure capacity seq".
--
-- A note is also called out, as "pressure capacity seq node", on the channel that is named like the key.
--
-- KEYS[1]  the cluster
-- ARGV     1 the node, or "" to leave no note    2 "pressure capacity seq"    3 for how long it counts (ms)
--
-- Returns  node, "pressure capacity seq", node, ... of all whose time is not over by the store's clock.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ttl = tonumber(ARGV[3])

if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now + ttl) .. ARGV[2])
  redis.call('PEXPIRE', KEYS[1], 2 * ttl)
  -- A user who may not publish still leaves notes; they are then heard when they are read.
  redis.pcall('PUBLISH', KEYS[1], ARGV[2] .. ' ' .. ARGV[1])
end

local found = {}
local all = redis.call('HGETALL', KEYS[1])
for place = 1, #all, 2 do
  local expiry, note = all[place + 1]:match('^(%d+) (.+)$')
  if expiry and tonumber(expiry) > now and tonumber(expiry) <= now + ttl then
    found[#found + 1] = all[place]
    found[#found + 1] = note
  else
    redis.call('HDEL', KEYS[1], all[place])
  end
end
return found
