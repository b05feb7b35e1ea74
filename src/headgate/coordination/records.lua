-- Records that all nodes have, changed together or not at all.
--
-- KEYS[1]  the state of the agreement: a hash of three counters
-- ARGV[1]  packed: prefix, expected {folder, name, revision}.., puts {folder, name, text}..,
--          deletes {folder, name}.., loud: whether the others are told, channel
--
-- A folder is a hash: name -> "revision text". All keys have the tag of KEYS[1], and so live together.

local change = cmsgpack.unpack(ARGV[1])

local function folder(name) return change.prefix .. 'records:' .. name end

local function revision_of(place)
  local kept = redis.call('HGET', folder(place[1]), place[2])
  return kept and string.match(kept, '^%d+') or '0'
end

for _, each in ipairs(change.expected) do
  if revision_of(each) ~= each[3] then return 0 end
end

local revision = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'revision', 1))
for _, each in ipairs(change.puts) do
  redis.call('HSET', folder(each[1]), each[2], revision .. ' ' .. each[3])
end
for _, each in ipairs(change.deletes) do
  redis.call('HDEL', folder(each[1]), each[2])
end
if change.loud then
  redis.call('HINCRBY', KEYS[1], 'records', 1)
  redis.call('PUBLISH', change.channel, 'records')
end
return 1
