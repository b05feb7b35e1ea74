-- headgate.algorithms.sliding_window_counter. State: the slot's number, and the running sums of the counts
-- from it back to the oldest slot: sums[1] is the current slot's, sums[slots + 1] all.
--
-- Rule: limit, capacity, slots, slot = (su, sn), phase = (pu, pn).

local function sliding_window_counter()
  local function number_at(rule, now, sub)
    local u, n = now + rule.pu, sub + rule.pn
    if n >= 1000 then u, n = u + 1, n - 1000 end
    return over(u, n, rule.su, rule.sn, 1000)
  end

  local function start(rule, number)
    local u, n = times(number, rule.su, rule.sn, 1000)
    n = n - rule.pn
    if n < 0 then u, n = u - 1, n + 1000 end
    return u - rule.pu, n
  end

  -- The slot and its sums as they stand at a moment; if the clock went back, as they are. Nothing is altered.
  local function standing(rule, state, now, sub)
    local current = number_at(rule, now, sub)
    local number, sums = state[1], state[2]
    if number then
      local behind = current - number
      if behind <= 0 and behind >= -rule.slots then return number, sums end
      if behind > 0 and behind <= rule.slots then
        local moved = {}
        for place = 1, rule.slots + 1 do moved[place] = place > behind and sums[place - behind] or 0 end
        return current, moved
      end
    end
    local empty = {}
    for place = 1, rule.slots + 1 do empty[place] = 0 end
    return current, empty
  end

  local function room(rule, number, sums, now, sub)
    local whole = sums[rule.slots]
    local oldest = sums[rule.slots + 1] - whole
    if oldest == 0 then return rule.limit - whole end
    local u, n = start(rule, number + 1)
    u, n = u - now, n - sub
    if n < 0 then u, n = u - 1, n + 1000 end
    if u > rule.su or (u == rule.su and n > rule.sn) then u, n = rule.su, rule.sn end
    local counted, rest = part_of(oldest, u, n, rule.su, rule.sn)
    if rest then counted = counted + 1 end
    return rule.limit - whole - counted
  end

  -- How much of a slot elapses before the cost passes, when `place` slots are ahead of the oldest.
  local function passes_after(rule, sums, cost, place)
    local whole = place > 0 and sums[place] or 0
    local oldest = sums[place + 1] - whole
    local room = rule.limit - cost - whole
    if room < 0 then return rule.su, rule.sn end
    if oldest <= room then return 0, 0 end
    local u, n = share_of(rule.su, rule.sn, room, oldest)
    u, n = rule.su - u, rule.sn - n
    if n < 0 then u, n = u - 1, n + 1000 end
    return u, n
  end

  local function passes_at(rule, number, sums, cost)
    local low, high = 0, rule.slots
    while low < high do
      local middle = floor((low + high + 1) / 2)
      local u, n = passes_after(rule, sums, cost, middle)
      if u < rule.su or (u == rule.su and n < rule.sn) then low = middle else high = middle - 1 end
    end
    local su, sn = start(rule, number + rule.slots - low)
    local u, n = passes_after(rule, sums, cost, low)
    return su + u, sn + n
  end

  return {
    create = function() return {} end,
    is_none = function(state) return not state[1] end,
    is_valid = function(state, rule)
      if not state[1] then return true end
      return type(state[1]) == 'number' and type(state[2]) == 'table' and #state[2] == rule.slots + 1
    end,
    wait = function(rule, state, cost, now, sub)
      if cost > rule.capacity then return NEVER end
      if cost == 0 then return 0 end
      local number, sums = standing(rule, state, now, sub)
      if cost <= room(rule, number, sums, now, sub) then return 0 end
      local u, n = passes_at(rule, number, sums, cost)
      return (u - now) * 1000 + n - sub
    end,
    delay = function() return 0 end,
    consume = function(rule, state, cost, now)
      local number, sums = standing(rule, state, now, 0)
      for place = 1, rule.slots + 1 do sums[place] = sums[place] + cost end
      state[1], state[2] = number, sums
    end,
    refund = function(rule, state, cost, now, granted_at)
      local number, sums = standing(rule, state, now, 0)
      local place = max(0, number - number_at(rule, granted_at, 0))
      local newer = sums[place] or 0 -- of the slots after the one in which it was spent
      while place <= rule.slots do
        local here = sums[place + 1] - newer
        sums[place + 1] = sums[place + 1] - min(cost, here)
        place = place + 1
      end
      state[1], state[2] = number, sums
    end,
    remaining = function(rule, state, now)
      local number, sums = standing(rule, state, now, 0)
      return max(0, room(rule, number, sums, now, 0))
    end,
    reset = function(rule, state, now)
      local number, sums = standing(rule, state, now, 0)
      if sums[rule.slots + 1] == 0 then return 0 end
      local place = 0
      while sums[place + 1] == 0 do place = place + 1 end
      local u, n = start(rule, number - place + rule.slots + 1)
      return (u - now) * 1000 + n
    end,
  }
end
