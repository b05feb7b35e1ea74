-- headgate.algorithms.gcra: token bucket, leaky bucket, and its queue. State: TAT as (u, ticks).
--
-- Rule: limit, capacity, base = ticks in a microsecond, T = (iu, it), span = (su, st),
-- reach = (ru, rt), far = span + reach = (fu, ft), queues = whether callers are delayed.

local function gcra()
  local function debt(rule, state, now, sub)
    local tat = state[1]
    if not tat then return 0, 0 end
    local u, n = tat - now, state[2]
    if sub > 0 then
      n = n - sub * rule.ticks
      if n < 0 then u, n = u - 1, n + rule.base end
    end
    if u < 0 or u > rule.fu or (u == rule.fu and n > rule.ft) then return 0, 0 end
    return u, n
  end

  local function wait(rule, state, cost, now, sub)
    if cost > rule.capacity then return NEVER end
    if cost == 0 then return 0 end
    local u, n = debt(rule, state, now, sub)
    local cu, cn = rule.iu, rule.it
    if cost ~= 1 then cu, cn = times(cost, cu, cn, rule.base) end
    u, n = u + cu - rule.su, n + cn - rule.st
    if n < 0 then u, n = u - 1, n + rule.base elseif n >= rule.base then u, n = u + 1, n - rule.base end
    if u < 0 or (u == 0 and n == 0) then return 0 end
    return u * 1000 + ceil(n / rule.ticks)
  end

  local function delay(rule, state, now, sub)
    local u, n = debt(rule, state, now, sub)
    return u * 1000 + ceil(n / rule.ticks)
  end

  return {
    create = function() return {} end,
    is_none = function(state) return not state[1] end,
    is_valid = function(state)
      return not state[1] or (type(state[1]) == 'number' and type(state[2]) == 'number')
    end,
    wait = wait,
    reset = function(rule, state, now) return delay(rule, state, now, 0) end,
    delay = function(rule, state, now)
      if rule.queues then return delay(rule, state, now, 0) end
      return 0
    end,
    consume = function(rule, state, cost, now)
      local u, n = debt(rule, state, now, 0)
      local cu, cn = rule.iu, rule.it
      if cost ~= 1 then cu, cn = times(cost, cu, cn, rule.base) end
      u, n = now + u + cu, n + cn
      if n >= rule.base then u, n = u + 1, n - rule.base end
      state[1], state[2] = u, n
    end,
    refund = function(rule, state, cost, now, granted_at)
      local u, n = debt(rule, state, now, 0)
      local since = now - granted_at
      if since < rule.ru or (since == rule.ru and rule.rt > 0) then
        local bu, bn = rule.su, rule.st
        if cost < rule.capacity then bu, bn = times(cost, rule.iu, rule.it, rule.base) end
        u, n = u - bu, n - bn
        if n < 0 then u, n = u - 1, n + rule.base end
        if u < 0 then u, n = 0, 0 end
      end
      state[1], state[2] = now + u, n
    end,
    remaining = function(rule, state, now)
      local u, n = debt(rule, state, now, 0)
      u, n = rule.su - u, rule.st - n
      if n < 0 then u, n = u - 1, n + rule.base end
      if u < 0 then return 0 end
      return over(u, n, rule.iu, rule.it, rule.base)
    end,
  }
end
