-- A shared circuit: headgate.backpressure.breaker in the store's language, name by name.
-- A property test holds the two to the same answers; change both or neither.
--
-- KEYS[1]  the circuit
-- ARGV     1 the rule (JSON)   2 epoch      3 outcomes, a digit each   4 lease of an ended probe, or 0
--          5 its outcome       6 told (us)  7 uniform                  8 state to force, or -1
--          9 1: a probe is wanted           10 now (us); "" is the store's clock, anything else a test
--
-- Times are microseconds: Lua's numbers hold those exactly, and nanoseconds they do not.

local CLOSED, OPEN, HALF_OPEN, RAMP, FORCED_OPEN, METRICS_ONLY = 0, 1, 2, 3, 4, 6
local IGNORED, REFUSED, MILLION = 4, -1, 1000000
local MAX_TOLD = 3600 * MILLION
local SOON = MILLION
local KEPT_MS = 86400000

local rule = cjson.decode(ARGV[1])
local uniform = tonumber(ARGV[7])
local now = tonumber(ARGV[10])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * MILLION + tonumber(time[2])
end

local circuit
local packed = redis.call('GET', KEYS[1])
if packed then
  circuit = cmsgpack.unpack(packed)
else
  circuit = {
    state = CLOSED, epoch = math.floor(now / 1000), in_row = 0, openings = 0, until_at = 0, span = 0,
    successes = 0, step = 0, closed_at = 0, told_until = 0, leases = {}, last_lease = 0, step_at = 0,
    calls = 0, failures = 0, slow = 0, longest_run = 0, tripped = {0, 0, 0},
    window = {calls = 0, failures = 0, slow = 0, newest = 0, slots = {}, outcomes = ''},
  }
end
local window = circuit.window

local function failed(outcome) return outcome % 2 end
local function was_slow(outcome) return math.floor(outcome / 2) % 2 end

local function left_of(moment, most)
  local left = moment - now
  if left <= 0 or left > 2 * most then return 0 end
  return math.min(left, most)
end

-- The window: outcomes one by one, or three counts for each slot of time.

local function clear_window()
  window.calls, window.failures, window.slow = 0, 0, 0
  window.slots, window.outcomes = {}, ''
end

local function slot_of(number)
  return tostring(number % rule.slots)
end

local function roll_window()
  if rule.window_calls > 0 then return end
  local slot = math.floor(now / rule.slot_us)
  local ahead = slot - window.newest
  if ahead >= rule.slots or ahead <= -rule.slots then
    clear_window()
    window.newest = slot
  end
  while window.newest < slot do
    window.newest = window.newest + 1
    local oldest = window.slots[slot_of(window.newest)]
    if oldest then
      window.calls = window.calls - oldest[1]
      window.failures = window.failures - oldest[2]
      window.slow = window.slow - oldest[3]
      window.slots[slot_of(window.newest)] = nil
    end
  end
end

local function add_to_window(outcome)
  roll_window()
  if rule.window_calls > 0 then
    if window.calls == rule.window_calls then
      local oldest = tonumber(window.outcomes:sub(1, 1))
      window.calls = window.calls - 1
      window.failures = window.failures - failed(oldest)
      window.slow = window.slow - was_slow(oldest)
      window.outcomes = window.outcomes:sub(2)
    end
    window.outcomes = window.outcomes .. outcome
  else
    local place = slot_of(window.newest)
    local slot = window.slots[place] or {0, 0, 0}
    window.slots[place] = {slot[1] + 1, slot[2] + failed(outcome), slot[3] + was_slow(outcome)}
  end
  window.calls = window.calls + 1
  window.failures = window.failures + failed(outcome)
  window.slow = window.slow + was_slow(outcome)
end

-- The rule.

local function trips(calls, failures, slow, in_row, least)
  if rule.in_row > 0 and in_row >= rule.in_row then return true end
  if calls < least then return false end
  if rule.failure_ppm > 0 and failures * MILLION >= rule.failure_ppm * calls then return true end
  return rule.slow_ppm > 0 and slow * MILLION >= rule.slow_ppm * calls
end

local function over_half(calls, failures, slow, in_row)
  if rule.in_row > 0 and 2 * in_row > rule.in_row then return true end
  if rule.failure_ppm > 0 and 2 * failures * MILLION > rule.failure_ppm * calls then return true end
  return rule.slow_ppm > 0 and 2 * slow * MILLION > rule.slow_ppm * calls
end

local function span_of(openings)
  local span = rule.open_us
  for _ = 2, openings do
    if span >= rule.longest_us then break end
    span = span * 2
  end
  span = math.min(span, rule.longest_us)
  return span + math.floor(span * rule.jitter * (2 * uniform - 1) + 0.5)
end

-- The circuit.

local function begin_step(step, moment)
  circuit.step, circuit.step_at = step, moment
  circuit.calls, circuit.failures, circuit.slow, circuit.longest_run = 0, 0, 0, 0
end

local function enter(state)
  circuit.state = state
  circuit.epoch = circuit.epoch + 1
  circuit.in_row, circuit.successes, circuit.leases = 0, 0, {}
  clear_window()
  begin_step(0, 0)
end

local function close()
  enter(CLOSED)
  circuit.closed_at = now
end

local function open()
  local clean = now - circuit.closed_at
  if circuit.state == CLOSED and (clean < 0 or clean >= rule.forgive_us) then circuit.openings = 0 end
  circuit.openings = circuit.openings + 1
  local told = left_of(circuit.told_until, MAX_TOLD)
  if circuit.state == RAMP then
    circuit.tripped = {circuit.calls, circuit.failures, circuit.slow}
  else
    circuit.tripped = {window.calls, window.failures, window.slow}
  end
  enter(OPEN)
  circuit.span = math.max(span_of(circuit.openings), told)
  circuit.until_at = now + circuit.span
end

local function force(state)
  circuit.openings, circuit.told_until = 0, 0
  enter(state)
  circuit.closed_at = now
  if state == OPEN then
    circuit.openings, circuit.span = 1, rule.open_us
    circuit.until_at = now + rule.open_us
  end
end

local function climb(outcome)
  circuit.calls = circuit.calls + 1
  circuit.slow = circuit.slow + was_slow(outcome)
  if failed(outcome) == 1 then
    circuit.failures = circuit.failures + 1
    circuit.in_row = circuit.in_row + 1
    circuit.longest_run = math.max(circuit.longest_run, circuit.in_row)
  else
    circuit.in_row = 0
  end
  if trips(circuit.calls, circuit.failures, circuit.slow, circuit.in_row, rule.step_calls) then
    return open()
  end
  local age = now - circuit.step_at
  if age < 0 then circuit.step_at = now end
  if age < rule.step_us or circuit.calls < rule.step_calls then return end
  if over_half(circuit.calls, circuit.failures, circuit.slow, circuit.longest_run) then
    begin_step(math.max(0, circuit.step - 1), now)
  elseif circuit.step + 1 < rule.steps then
    begin_step(circuit.step + 1, now)
  else
    close()
  end
end

local function take_lease(lease)
  for place, one in ipairs(circuit.leases) do
    if one[1] == lease then
      table.remove(circuit.leases, place)
      return one[2]
    end
  end
end

local function probed(lease, outcome)
  local ends = take_lease(lease)
  if outcome ~= 0 then return open() end
  if not ends or left_of(ends, rule.lease_us) == 0 then return end
  circuit.successes = circuit.successes + 1
  if circuit.successes < rule.successes then return end
  if rule.steps == 0 then return close() end
  enter(RAMP)
  begin_step(0, now)
end

local function record(epoch, lease, outcome, told)
  if epoch ~= circuit.epoch and epoch ~= -1 then return end
  if outcome == IGNORED then
    take_lease(lease)
    return
  end
  local state = circuit.state
  if state == OPEN or (state > RAMP and state ~= METRICS_ONLY) then return end
  if told > 0 and state ~= METRICS_ONLY then
    circuit.told_until = math.max(circuit.told_until, now + math.min(told, MAX_TOLD))
  end
  if state == RAMP then return climb(outcome) end
  if state == HALF_OPEN then return probed(lease, outcome) end
  add_to_window(outcome)
  circuit.in_row = failed(outcome) == 1 and circuit.in_row + 1 or 0
  if state == CLOSED
    and trips(window.calls, window.failures, window.slow, circuit.in_row, rule.least_calls) then
    open()
  end
end

local function live_leases()
  local live = {}
  for _, one in ipairs(circuit.leases) do
    if left_of(one[2], rule.lease_us) > 0 then live[#live + 1] = one end
  end
  return live
end

local function probe()
  if #circuit.leases >= rule.probes then circuit.leases = live_leases() end
  if #circuit.leases >= rule.probes then return REFUSED end
  circuit.last_lease = circuit.last_lease + 1
  table.insert(circuit.leases, {circuit.last_lease, now + rule.lease_us})
  return circuit.last_lease
end

local function wait()
  if circuit.state == OPEN then return left_of(circuit.until_at, circuit.span) end
  if circuit.state == FORCED_OPEN then return rule.open_us end
  if circuit.state ~= HALF_OPEN or #circuit.leases < rule.probes then return 0 end
  local least = math.min(rule.lease_us, SOON)
  for _, one in ipairs(circuit.leases) do
    least = math.min(least, left_of(one[2], rule.lease_us))
  end
  return least
end

-- The question.

local epoch, told = tonumber(ARGV[2]), tonumber(ARGV[6])
if tonumber(ARGV[4]) > 0 then record(epoch, tonumber(ARGV[4]), tonumber(ARGV[5]), told) end
for outcome in ARGV[3]:gmatch('%d') do record(epoch, 0, tonumber(outcome), told) end
if tonumber(ARGV[8]) >= 0 then force(tonumber(ARGV[8])) end
local lease = 0
if ARGV[9] == '1' then
  if circuit.state == OPEN and left_of(circuit.until_at, circuit.span) == 0 then enter(HALF_OPEN) end
  if circuit.state == HALF_OPEN then
    lease = probe()
  elseif circuit.state == OPEN then
    lease = REFUSED
  end
end
roll_window()

redis.call('SET', KEYS[1], cmsgpack.pack(circuit))
if circuit.state < FORCED_OPEN then
  redis.call('PEXPIRE', KEYS[1], KEPT_MS + math.floor(math.max(0, circuit.until_at - now) / 1000))
end
return {
  circuit.state, circuit.epoch, wait(), circuit.openings, circuit.step, lease,
  window.calls, window.failures, window.slow, circuit.in_row, #live_leases(),
  circuit.tripped[1], circuit.tripped[2], circuit.tripped[3],
}
