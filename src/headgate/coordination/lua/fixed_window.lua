-- headgate.algorithms.window and calendar_window. State: the window and what was used in it.
--
-- Rule: limit, capacity, window = (wu, wn), phase = (pu, pn); or bounds, the starts of the periods around
-- now in microseconds. A window is told by its number, a period by its start.

local function fixed_window()
  local function number_at(rule, now, sub)
    local u, n = now + rule.pu, sub + rule.pn
    if n >= 1000 then u, n = u + 1, n - 1000 end
    return over(u, n, rule.wu, rule.wn, 1000)
  end

  local function start(rule, number)
    local u, n = times(number, rule.wu, rule.wn, 1000)
    return u - rule.pu, n - rule.pn
  end

  -- The window that a moment lies in, the next one, and what was used in the one that stands.
  local function standing(rule, state, now)
    local current, following
    if rule.bounds then
      local place = rule.place
      current, following = rule.bounds[place], rule.bounds[place + 1]
    else
      current = number_at(rule, now, 0)
      following = current + 1
    end
    local window = state[1]
    if window == current or window == following then return window, state[2] end
    return current, 0
  end

  -- Nanoseconds until a window that stands is over.
  local function left(rule, window, now)
    if rule.bounds then
      local place = rule.place
      if rule.bounds[place] ~= window then place = place + 1 end
      return (rule.bounds[place + 1] - now) * 1000
    end
    local u, n = start(rule, window + 1)
    return (u - now) * 1000 + n
  end

  return {
    create = function() return {} end,
    is_none = function(state) return not state[1] end,
    is_valid = function(state)
      return not state[1] or (type(state[1]) == 'number' and type(state[2]) == 'number')
    end,
    wait = function(rule, state, cost, now)
      if cost > rule.capacity then return NEVER end
      local window, used = standing(rule, state, now)
      if used + cost <= rule.limit then return 0 end
      return left(rule, window, now)
    end,
    delay = function() return 0 end,
    consume = function(rule, state, cost, now)
      local window, used = standing(rule, state, now)
      state[1], state[2] = window, used + cost
    end,
    refund = function(rule, state, cost, now, granted_at)
      local window, used = standing(rule, state, now)
      local spent_here
      if rule.bounds then
        local place = rule.place
        local start, finish = rule.bounds[place], rule.bounds[place + 1]
        spent_here = window == start and start <= granted_at and granted_at < finish
      else
        spent_here = number_at(rule, granted_at, 0) == window
      end
      if spent_here then used = used - min(cost, used) end
      state[1], state[2] = window, used
    end,
    remaining = function(rule, state, now)
      local _, used = standing(rule, state, now)
      return rule.limit - used
    end,
    reset = function(rule, state, now)
      local window, used = standing(rule, state, now)
      if used == 0 then return 0 end
      return left(rule, window, now)
    end,
    -- Nanoseconds until what is spent now is over.
    ends = function(rule, state, now)
      local window, used = standing(rule, state, now)
      if used == 0 then window = standing(rule, {}, now) end
      return left(rule, window, now)
    end,
  }
end
