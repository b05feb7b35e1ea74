-- Shared counters: a batch of questions, each atomic (headgate.engine.counting in the store's language). The
-- files of this directory are joined to one script in the order that redis_counters.py gives.
--
-- KEYS     all keys that the batch touches; questions name them by number
-- ARGV[1]  packed: {now (us) or false, recipes, questions}
--   recipes    {version, recipe, rule} each; a rule is what the recipe comes to, worked out by the node
--   questions  one flat array: kind, levels, (key, recipe) of each level, and what the kind needs
-- Answers    packed, one flat array: now, then for each question a status and what belongs to it

local PEEK, REFUND, PAY, RENEW, RESERVE, SETTLE, DUE, LEASES = 1, 2, 3, 4, 5, 6, 7, 8
local DONE, DONE_OTHERWISE, UNKNOWN_HOLD, UNREADABLE, AGAIN = 0, 1, 2, 3, 4

local input = cmsgpack.unpack(ARGV[1])
local now, recipes, questions = input[1], input[2], input[3]
local extra_ms = 0
if now then
  extra_ms = 86400000 -- a test's clock has nothing to do with the one that ends keys
else
  local time = redis.call('TIME')
  now = (tonumber(time[1]) - 1735689600) * 1000000 + tonumber(time[2])
end

for place, recipe in ipairs(recipes) do
  local rule = recipe[3]
  rule.ops = sort_of(rule.kind)
  if rule.inner then
    rule.inner.ops = sort_of(rule.inner.kind)
    rule.sort = rule.inner.ops
  end
  if rule.bounds then
    for start = 1, #rule.bounds - 2 do
      if rule.bounds[start] <= now and now < rule.bounds[start + 1] then rule.place = start end
    end
  end
  rules[recipe[2]] = rule
  recipes[place] = {version = recipe[1], recipe = recipe[2], rule = rule}
end

local book = cell_book(now)
local cell_of, touch, refund, pay = book.cell_of, book.touch, book.refund, book.pay
local out, last = {now}, 1
local at = 1
local held, wants = {}, {}

local function tell(...)
  for _, value in ipairs({...}) do
    last = last + 1
    out[last] = value
  end
end

local function tell_level(cell, wait, delay, otherwise)
  local rule = cell.rule
  out[last + 1], out[last + 2] = wait, delay
  out[last + 3] = cell.ops.remaining(rule, cell.state, now)
  out[last + 4] = cell.ops.reset(rule, cell.state, now)
  last = last + 4
  if otherwise then tell(rule.limit, rule.wu, rule.wn) end
end

local function status_of(levels)
  for level = 1, levels do
    if held[level].recipe ~= wants[level].recipe then return DONE_OTHERWISE end
  end
  return DONE
end

-- How things stand for a cost of 1.
local function tell_standings(levels)
  local status = status_of(levels)
  tell(status)
  for level = 1, levels do
    local cell = held[level]
    local wait, delay = cell.ops.wait(cell.rule, cell.state, 1, now, 0), 0
    if wait == 0 then delay = cell.ops.delay(cell.rule, cell.state, now) end
    tell_level(cell, wait, delay, status == DONE_OTHERWISE)
  end
end

-- Returns whether it passed on all levels.
local function check(levels, cost, spends)
  local waits, delays, passes = {}, {}, true
  for level = 1, levels do
    local cell = held[level]
    local wait = cell.ops.wait(cell.rule, cell.state, cost, now, 0)
    waits[level], delays[level] = wait, 0
    if wait ~= 0 then
      passes = false
    elseif cell.rule.queues then
      delays[level] = cell.ops.delay(cell.rule, cell.state, now)
    end
  end
  if spends and passes and cost > 0 then
    for level = 1, levels do
      local cell = held[level]
      cell.ops.consume(cell.rule, cell.state, cost, now)
      touch(cell)
    end
  end
  local status = status_of(levels)
  last = last + 1
  out[last] = status
  for level = 1, levels do
    tell_level(held[level], waits[level], delays[level], status == DONE_OTHERWISE)
  end
  return passes
end

local leasing

local function renew(cell, arguments)
  leasing = leasing or ledger_book()
  local node, seq, left, back, need, ahead, demand, ttl, bound = unpack(arguments)
  local ledger = cell.ledger
  if not ledger then
    ledger = {0, 0, 0, {}}
    cell.ledger = ledger
    touch(cell)
  end
  local granted, kept, again, changed =
    leasing.renew(ledger, cell, node, seq, left, back, need, ahead, demand, ttl, bound, now)
  if changed then touch(cell) end
  tell_standings(1)
  tell(granted, kept, again, leasing.outstanding(ledger))
end

-- Holds that ended in this batch. They are removed when all else is written: a server that is out of memory
-- refuses to write and does not refuse to remove.
local ended = {}

local function reserve(levels, arguments)
  local cost, hold_key, index_key, id, ttl, payload = unpack(arguments)
  if book.is_error(redis.pcall('ZRANGEBYSCORE', KEYS[index_key], 1, 0)) then error({unreadable = true}) end
  if not check(levels, cost, true) then return end
  local expires = now + ttl
  -- A day longer than it lasts, so that whoever releases it finds what to release.
  redis.call('SET', KEYS[hold_key], cmsgpack.pack({MAGIC, now, expires, cost, payload}),
    'PX', ceil(ttl / 1000) + 86400000 + extra_ms)
  redis.call('ZADD', KEYS[index_key], expires, id)
end

local function settle(levels, arguments)
  local actual, hold_key, index_key, id, if_due = unpack(arguments)
  local packed = not ended[KEYS[hold_key]] and redis.pcall('GET', KEYS[hold_key])
  if book.is_error(packed) then error({unreadable = true}) end
  local granted_at, expires, cost
  if packed then
    local fine, hold = pcall(cmsgpack.unpack, packed)
    if not fine or type(hold) ~= 'table' or hold[1] ~= MAGIC or not book.are_numbers(hold, 2, 4) then
      error({unreadable = true})
    end
    granted_at, expires, cost = hold[2], hold[3], hold[4]
  end
  if not packed or (if_due and expires > now) then
    tell(UNKNOWN_HOLD)
    return
  end
  local is_over = expires <= now
  if is_over then actual = 0 elseif actual < 0 then actual = cost end
  for level = 1, levels do
    local cell = held[level]
    if cell.rule.permits then
      refund(cell, cost, granted_at)
    elseif actual < cost then
      refund(cell, cost - actual, granted_at)
    elseif actual > cost then
      pay(cell, actual - cost)
    end
  end
  ended[KEYS[hold_key]] = {KEYS[index_key], id}
  if is_over and not if_due then tell(UNKNOWN_HOLD) else tell_standings(levels) end
end

local function due(index_key, most)
  local ids = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[index_key], '-inf', now, 'LIMIT', 0, most)) do
    if book.is_plain(id) then
      ids[#ids + 1] = id
    else
      redis.call('ZREM', KEYS[index_key], id) -- no node wrote it
    end
  end
  tell(DONE, #ids)
  for _, id in ipairs(ids) do tell(id) end
end

local function leases(key)
  local live = {}
  local ledger = book.ledger_of(key)
  for _, entry in ipairs(ledger and ledger[4] or {}) do
    if entry[EXPIRES] > now then live[#live + 1] = entry end
  end
  tell(DONE, #live)
  for _, entry in ipairs(live) do tell(entry[NODE], entry[HELD], entry[EXPIRES] - now) end
end

-- How many numbers a question has after its levels.
local LENGTHS = {[0] = 1, [PEEK] = 1, [REFUND] = 2, [PAY] = 1, [RENEW] = 9, [RESERVE] = 6, [SETTLE] = 5,
  [DUE] = 2, [LEASES] = 1}

-- `check` of one level, which is what most questions are.
local function check_one(cell, want, cost, spends)
  local ops, rule, state = cell.ops, cell.rule, cell.state
  local wait, delay = ops.wait(rule, state, cost, now, 0), 0
  if wait == 0 then
    if rule.queues then delay = ops.delay(rule, state, now) end
    if spends and cost > 0 then
      ops.consume(rule, state, cost, now)
      touch(cell)
    end
  end
  local otherwise = cell.recipe ~= want.recipe
  last = last + 1
  out[last] = otherwise and DONE_OTHERWISE or DONE
  tell_level(cell, wait, delay, otherwise)
end

-- Keys of questions that will be asked again: what comes after them in the batch must not overtake them.
local delayed

local function answer(kind, levels, first)
  for level = 1, delayed and levels or 0 do
    if delayed[KEYS[questions[first + 2 * level - 2]]] then error({again = ''}) end
  end
  for level = 1, levels do
    local want = recipes[questions[first + 1]]
    wants[level] = want
    held[level] = cell_of(KEYS[questions[first]], want)
    first = first + 2
  end
  if kind <= PEEK then
    if levels == 1 then return check_one(held[1], wants[1], questions[first], kind == 0) end
    check(levels, questions[first], kind == 0)
    return
  end
  local arguments = {}
  for place = 1, LENGTHS[kind] do arguments[place] = questions[first + place - 1] end
  if kind == REFUND then
    local granted_at = arguments[2] == 0 and now or arguments[2]
    for level = 1, levels do refund(held[level], arguments[1], granted_at) end
    tell_standings(levels)
  elseif kind == PAY then
    for level = 1, levels do pay(held[level], arguments[1]) end
    tell_standings(levels)
  elseif kind == RENEW then
    renew(held[1], arguments)
  elseif kind == RESERVE then
    reserve(levels, arguments)
  elseif kind == SETTLE then
    settle(levels, arguments)
  elseif kind == DUE then
    due(arguments[1], arguments[2])
  else
    leases(KEYS[arguments[1]])
  end
end

-- One question that cannot be answered is no reason not to answer the others.
local function failed(problem, levels, first)
  if type(problem) == 'table' and problem.again then
    delayed = delayed or {}
    for level = 1, levels do delayed[KEYS[questions[first + 2 * level - 2]]] = true end
    tell(AGAIN, problem.again)
    return
  end
  local is_bug = type(problem) == 'string' and string.find(problem, 'attempt to', 1, true)
  if not is_bug and not (type(problem) == 'table' and problem.unreadable) then error(problem) end
  if is_bug then redis.log(redis.LOG_WARNING, 'headgate: ' .. problem) end
  for level = 1, levels do
    if is_bug and held[level] then held[level].bad = true end
  end
  tell(UNREADABLE)
end

local count = #questions
while at <= count do
  local kind, levels = questions[at], questions[at + 1]
  local first = at + 2
  at = first + 2 * levels + LENGTHS[kind]
  local before = last
  held = {}
  local fine, problem = pcall(answer, kind, levels, first)
  if not fine then
    last = before
    failed(problem, levels, first)
  end
end
for _, cell in ipairs(order) do
  if cell.is_dirty and not cell.bad then book.write_cell(cell, extra_ms) end
end
for hold_key, place in pairs(ended) do
  redis.call('DEL', hold_key)
  redis.pcall('ZREM', place[1], place[2])
end
for place = #out, last + 1, -1 do out[place] = nil end
return cmsgpack.pack(out)
