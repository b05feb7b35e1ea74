-- headgate.algorithms.event_log: sliding_window_log and concurrency. The log is a Redis string, an array of
-- doubles: before[0], time[0], before[1], time[1], ..., total. So a decision reads a few pages of it, by
-- binary search, and an admission writes its end.
--
-- Rule: limit, capacity, window = (wu, wn), permits = whether it is given back when the work is over.
-- State: `key`; what is there is read when it is first asked for:
--   n        entries; 0 is no log         skip   elements at its front that are dropped
--   changed  elements not written yet     pages  what was read
--   replaces the string is written anew   first  the first entry that counts now

local function event_log()
  local PAGE = 128 -- elements

  local function bad() error({unreadable = true}) end

  local function forget_pages(state)
    state.pages, state.changed, state.skip, state.first = {}, {}, 0, nil
  end

  local function open(state)
    if state.n then return end
    local length = redis.pcall('STRLEN', state.key)
    if type(length) ~= 'number' or (length > 0 and length % 16 ~= 8) then bad() end
    state.n = max(0, (length - 8) / 16)
    forget_pages(state)
  end

  local function get(state, place)
    local changed = state.changed[place]
    if changed then return changed end
    place = place + state.skip
    local number = floor(place / PAGE)
    local page = state.pages[number]
    if not page then
      page = redis.call('GETRANGE', state.key, number * PAGE * 8, (number + 1) * PAGE * 8 - 1)
      state.pages[number] = page
    end
    local value = struct.unpack('<d', page, (place % PAGE) * 8 + 1)
    if value ~= value then bad() end
    return value
  end

  -- Whether there are entries, and they are not from another time.
  local function believed(rule, state, now, sub)
    open(state)
    if state.n == 0 then return false end
    return get(state, 2 * state.n - 1) - now - rule.wu <= floor((rule.wn + sub) / 1000)
  end

  local function first_after(state, moment)
    local low, high = 0, state.n
    while low < high do
      local middle = floor((low + high) / 2)
      if get(state, 2 * middle + 1) > moment then high = middle else low = middle + 1 end
    end
    return low
  end

  local function first_reaching(state, low, total)
    local high = state.n
    while low < high do
      local middle = floor((low + high) / 2)
      if get(state, 2 * middle) >= total then high = middle else low = middle + 1 end
    end
    return low
  end

  -- The first entry that counts.
  local function first_live(rule, state, now, sub)
    if sub == 0 and state.first then return state.first end
    local first = first_after(state, now - rule.wu + floor((sub - rule.wn) / 1000))
    if sub == 0 then state.first = first end
    return first
  end

  local function clear(state)
    state.n, state.replaces = 0, true
    forget_pages(state)
  end

  -- Write what changed; true when the string did not exist before, so that it has no expiry yet.
  local function write(state)
    if not state.n then return false end
    if state.n == 0 then
      if state.replaces then redis.call('DEL', state.key) end
      state.replaces = false
      return false
    end
    local low = 2 * state.n + 1
    while state.changed[low - 1] do low = low - 1 end
    local parts = {}
    for place = low, 2 * state.n do parts[#parts + 1] = struct.pack('<d', state.changed[place]) end
    local text, is_new = table.concat(parts), state.replaces
    if state.replaces then
      redis.call('SET', state.key, text)
    elseif state.skip > 0 then
      local kept = redis.call('GETRANGE', state.key, state.skip * 8, (state.skip + low) * 8 - 1)
      redis.call('SET', state.key, kept .. text, 'KEEPTTL')
    elseif #parts > 0 then
      redis.call('SETRANGE', state.key, low * 8, text)
    end
    state.replaces = false
    forget_pages(state)
    return is_new
  end

  -- Take `taken` from all totals from entry `behind` on, and drop the entries from `kept` up to it.
  local function shrink(state, kept, behind, taken)
    state.is_new = write(state) or state.is_new
    local parts = {}
    for place = 2 * behind, 2 * state.n, 2 do
      parts[#parts + 1] = struct.pack('<d', get(state, place) - taken)
      if place < 2 * state.n then parts[#parts + 1] = struct.pack('<d', get(state, place + 1)) end
    end
    local tail = table.concat(parts)
    if kept == behind then
      redis.call('SETRANGE', state.key, 16 * kept, tail)
    else
      local head = kept > 0 and redis.call('GETRANGE', state.key, 0, 16 * kept - 1) or ''
      redis.call('SET', state.key, head .. tail, 'KEEPTTL')
      state.n = state.n - (behind - kept)
    end
    forget_pages(state)
    if state.n == 0 then clear(state) end
  end

  return {
    create = function(key) return {key = key} end,
    is_none = function(state)
      open(state)
      return state.n == 0
    end,
    is_valid = function(state)
      open(state)
      return true
    end,
    wait = function(rule, state, cost, now, sub)
      if cost > rule.capacity then return NEVER end
      if cost == 0 or not believed(rule, state, now, sub) then return 0 end
      local least = get(state, 2 * state.n) + cost - rule.limit
      local first = first_live(rule, state, now, sub)
      if get(state, 2 * first) >= least then return 0 end
      local leaves = get(state, 2 * first_reaching(state, first, least) - 1)
      return (leaves + rule.wu - now) * 1000 + rule.wn - sub
    end,
    delay = function() return 0 end,
    consume = function(rule, state, cost, now)
      if not believed(rule, state, now, 0) then
        clear(state)
        state.changed[0], state.changed[1], state.changed[2] = 0, now, cost
        state.n = 1
        return
      end
      local entries, total = state.n, get(state, 2 * state.n)
      local last = get(state, 2 * entries - 1)
      local expired = first_live(rule, state, now, 0)
      if 2 * expired >= entries and expired > 0 then
        if expired == entries then
          clear(state)
          state.changed[0] = total
        else
          local kept = {}
          for place, value in pairs(state.changed) do
            if place >= 2 * expired then kept[place - 2 * expired] = value end
          end
          state.changed, state.skip = kept, state.skip + 2 * expired
          state.first = 0
        end
        entries = entries - expired
        state.n = entries
      end
      if entries > 0 and last >= now then
        state.changed[2 * entries] = total + cost
        return
      end
      if entries == 0 then state.first = 0 end
      state.changed[2 * entries] = total
      state.changed[2 * entries + 1] = now
      state.changed[2 * entries + 2] = total + cost
      state.n = entries + 1
    end,
    refund = function(rule, state, cost, now, granted_at)
      if not believed(rule, state, now, 0) then
        clear(state)
        return
      end
      local first = first_live(rule, state, now, 0)
      local behind = first_after(state, granted_at)
      if behind <= first then return end
      local level = get(state, 2 * behind)
      local taken = min(cost, level - get(state, 2 * first))
      local kept = first_reaching(state, first, level - taken)
      shrink(state, kept, behind, taken)
    end,
    remaining = function(rule, state, now)
      if not believed(rule, state, now, 0) then return rule.limit end
      local used = get(state, 2 * state.n) - get(state, 2 * first_live(rule, state, now, 0))
      return max(0, rule.limit - used)
    end,
    reset = function(rule, state, now)
      if not believed(rule, state, now, 0) then return 0 end
      return max(0, (get(state, 2 * state.n - 1) + rule.wu - now) * 1000 + rule.wn)
    end,
    clear = clear,
    write = write,
  }
end
