-- headgate.engine.lease_ledger, operation by operation. A ledger is {freed, freed_since, credited_at, entries};
-- an entry is an array, so that it packs small.

local NODE, SEQ, HELD, GRANTED_AT, EXPIRES, DEMAND, CREDIT, LAST_GRANTED, LAST_HELD, LAST_AGAIN =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10

local function ledger_book()
  local CREDIT_SECONDS = 0.2
  local LONGEST_FAIR_WAIT_US = 3600000000
  local KEPT_SECONDS = 2

  local function find(ledger, node)
    for _, entry in ipairs(ledger[4]) do
      if entry[NODE] == node then return entry end
    end
  end

  local function outstanding(ledger)
    local sum = 0
    for _, entry in ipairs(ledger[4]) do sum = sum + entry[HELD] end
    return sum
  end

  local function share(entry, level)
    if level < 0 then return entry[DEMAND] end
    return min(entry[DEMAND], level)
  end

  local function drop_expired(ledger, cell, bound, now)
    local live, rule = {}, cell.rule
    for _, entry in ipairs(ledger[4]) do
      if entry[EXPIRES] > now then live[#live + 1] = entry end
    end
    if #live == #ledger[4] then return end
    if now - ledger[2] >= rule.wu then ledger[1], ledger[2] = 0, now end
    for _, entry in ipairs(ledger[4]) do
      if entry[EXPIRES] <= now and entry[HELD] ~= 0 and not rule.repays then
        local back = min(entry[HELD], max(0, bound - ledger[1]))
        if back > 0 then
          ledger[1] = ledger[1] + back
          cell.ops.refund(rule, cell.state, back, now, entry[GRANTED_AT])
        end
      end
    end
    ledger[4] = live
  end

  -- The largest share; -1 while there is enough for all demands.
  local function water_level(ledger, rate)
    local demands, total = {}, 0
    for place, entry in ipairs(ledger[4]) do demands[place] = entry[DEMAND] end
    table.sort(demands)
    for _, demand in ipairs(demands) do total = total + demand end
    if total <= rate then return -1 end
    local rest, left = rate, #demands
    for _, demand in ipairs(demands) do
      if demand * left >= rest then break end
      rest, left = rest - demand, left - 1
    end
    return rest / max(1, left)
  end

  local function earn(ledger, level, newcomer, now)
    local seconds = max(0, now - ledger[3]) / 1000000
    ledger[3] = now
    for _, entry in ipairs(ledger[4]) do
      if entry ~= newcomer then
        local most = max(1, share(entry, level) * CREDIT_SECONDS)
        local earned = most
        if level >= 0 then earned = level * seconds end
        entry[CREDIT] = min(most, entry[CREDIT] + earned)
      end
    end
  end

  local function reserve(ledger, cell, own, level, now)
    local seconds, kept = 0, 0
    if cell.rule.ends_at_once then
      seconds = floor(cell.ops.ends(cell.rule, cell.state, now) / 1000) / 1000000
    end
    for _, entry in ipairs(ledger[4]) do
      if entry ~= own then
        local ahead = entry[DEMAND] < level and seconds or min(seconds, KEPT_SECONDS)
        kept = kept + (max(0, entry[CREDIT]) + share(entry, level) * ahead)
      end
    end
    return floor(min(kept, max(1, cell.rule.capacity / 2)))
  end

  local function most_ahead(ledger, rule, own, bound, ttl, remaining)
    if remaining < 1 or not rule.leasable then return 0 end
    local nodes, outstanding = #ledger[4], outstanding(ledger)
    local most = min(
      max(1, floor(remaining / (2 * nodes))),
      bound - outstanding,
      max(1, floor(bound / nodes)) - own[HELD]
    )
    if rule.repays then most = min(most, floor(rule.rate * (ttl / 1000000)) - outstanding) end
    return most
  end

  local function again_in(cell, own, level, reserve, now)
    local wait = cell.ops.wait(cell.rule, cell.state, 1, now, 0)
    if level < 0 or own[CREDIT] >= 1 then return wait end
    local fair = LONGEST_FAIR_WAIT_US
    if level > 0 then fair = min(fair, (1 - own[CREDIT]) / level * 1000000) end
    local claimed = max(wait, ceil(fair) * 1000)
    if reserve + 1 > cell.rule.capacity then return claimed end
    return min(claimed, cell.ops.wait(cell.rule, cell.state, reserve + 1, now, 0))
  end

  -- Returns granted, held, again.
  local function grant(ledger, cell, own, need, ahead_wanted, bound, ttl, level, now)
    local remaining = cell.ops.remaining(cell.rule, cell.state, now)
    local allowed, kept = remaining, 0
    if level >= 0 then
      kept = reserve(ledger, cell, own, level, now)
      allowed = min(remaining, max(floor(own[CREDIT]), remaining - kept))
    end
    local spent = max(0, min(need, allowed))
    local most = most_ahead(ledger, cell.rule, own, bound, ttl, remaining - spent)
    local ahead = max(0, min(ahead_wanted, allowed - spent, most))
    local granted = spent + ahead
    if granted > 0 then cell.ops.consume(cell.rule, cell.state, granted, now) end
    if ahead > 0 then own[HELD], own[GRANTED_AT] = own[HELD] + ahead, now end
    if level >= 0 then
      local window_seconds = (cell.rule.wu + cell.rule.wn / 1000) / 1000000
      own[CREDIT] = max(-max(1, share(own, level) * window_seconds), own[CREDIT] - granted)
    end
    local again = 0
    if granted < need + ahead_wanted and allowed - granted < 1 then
      again = again_in(cell, own, level, kept, now)
    end
    return granted, ahead, again
  end

  -- Returns granted, held, again, and whether anything changed.
  local function renew(ledger, cell, node, seq, left, back, need, ahead, demand, ttl, bound, now)
    local own = find(ledger, node)
    if own and seq <= own[SEQ] then
      if seq == own[SEQ] then return own[LAST_GRANTED], own[LAST_HELD], own[LAST_AGAIN], false end
      return 0, 0, 0, false
    end
    drop_expired(ledger, cell, bound, now)
    own = find(ledger, node)
    local newcomer
    if own then
      local held = max(0, min(left, own[HELD]))
      back = max(0, min(back, held))
      own[HELD] = held - back
      if back > 0 then cell.ops.refund(cell.rule, cell.state, back, now, own[GRANTED_AT]) end
    else
      own = {node, 0, 0, 0, 0, 0, 1, 0, 0, 0}
      newcomer = own
      ledger[4][#ledger[4] + 1] = own
    end
    own[DEMAND] = demand
    local level = water_level(ledger, cell.rule.rate)
    earn(ledger, level, newcomer, now)
    local granted, held, again = grant(ledger, cell, own, need, ahead, bound, ttl, level, now)
    own[LAST_GRANTED], own[LAST_HELD], own[LAST_AGAIN] = granted, held, again
    own[SEQ], own[EXPIRES] = seq, now + ttl
    return granted, held, again, true
  end

  return {renew = renew, outstanding = outstanding}
end
