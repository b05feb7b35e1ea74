-- Who is there, and who leads: one beat of one process, by the store's clock.
--
-- KEYS[1]  the state of the agreement: a hash of three counters
-- ARGV[1]  packed: prefix, channel, what (beat, look or leave), node, run, text, ttl_us
--
-- Returns whether the process is a member, whether it leads, the leader, and node, run, text of each member.
-- A member is {run, text, expires, ttl}, the leader {node, run}: it leads for as long as it is a member.

local asked = cmsgpack.unpack(ARGV[1])
local members_key, leader_key = asked.prefix .. 'members', asked.prefix .. 'leader'
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local changed = false

local function keep(node, member)
  redis.call('HSET', members_key, node, cmsgpack.pack(member))
end

local members = {}
local kept = redis.call('HGETALL', members_key)
for at = 1, #kept, 2 do
  local node, member = kept[at], cmsgpack.unpack(kept[at + 1])
  if member[3] > now + member[4] then -- another server's clock was ahead of this one's
    member[3] = now + member[4]
    keep(node, member)
  end
  if member[3] <= now or (asked.what == 'leave' and node == asked.node and member[1] == asked.run) then
    redis.call('HDEL', members_key, node)
    changed = true
  else
    members[node] = member
  end
end

local mine = members[asked.node]
local is_member = false
if asked.what == 'beat' and (not mine or mine[1] == asked.run) then
  changed = changed or not mine
  members[asked.node] = {asked.run, asked.text, now + asked.ttl_us, asked.ttl_us}
  keep(asked.node, members[asked.node])
  is_member = true
end

local packed = redis.call('GET', leader_key)
local leader = packed and cmsgpack.unpack(packed)
if leader and not (members[leader[1]] and members[leader[1]][1] == leader[2]) then
  redis.call('DEL', leader_key)
  leader, changed = nil, true
end
if not leader and is_member then
  leader, changed = {asked.node, asked.run}, true
  redis.call('SET', leader_key, cmsgpack.pack(leader))
end

if changed then
  redis.call('HINCRBY', KEYS[1], 'roll', 1)
  redis.call('PUBLISH', asked.channel, 'roll')
end

local leads = is_member and leader[2] == asked.run
local answer = {is_member and 1 or 0, leads and 1 or 0, leader and leader[1] or ''}
for node, member in pairs(members) do
  answer[#answer + 1] = node
  answer[#answer + 1] = member[1]
  answer[#answer + 1] = member[2]
end
return answer
