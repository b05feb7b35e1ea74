-- headgate.algorithms.dual: a bucket and a window that decide as one. State: both states.
--
-- Rule: capacity, bucket and window (rules), sort (of the window); limit and window of the window.

local function dual(bucket_of)
  return {
    create = function(key, rule) return {bucket = {}, window = rule.sort.create(key)} end,
    is_none = function(state) return not state.bucket[1] end,
    is_valid = function(state, rule)
      return bucket_of.is_valid(state.bucket) and rule.sort.is_valid(state.window, rule.inner)
    end,
    wait = function(rule, state, cost, now)
      if cost > rule.capacity then return NEVER end
      local waited, at, sub = 0, now, 0
      while true do
        local wait = max(
          bucket_of.wait(rule.bucket, state.bucket, cost, at, sub),
          rule.sort.wait(rule.inner, state.window, cost, at, sub)
        )
        if wait == 0 then return waited end
        -- Once more from there: after the clock went back, a part may believe its state only then.
        waited = waited + wait
        at, sub = at + floor((sub + wait) / 1000), (sub + wait) % 1000
      end
    end,
    delay = function() return 0 end,
    consume = function(rule, state, cost, now)
      bucket_of.consume(rule.bucket, state.bucket, cost, now)
      rule.sort.consume(rule.inner, state.window, cost, now)
    end,
    refund = function(rule, state, cost, now, granted_at)
      bucket_of.refund(rule.bucket, state.bucket, cost, now, granted_at)
      rule.sort.refund(rule.inner, state.window, cost, now, granted_at)
    end,
    remaining = function(rule, state, now)
      return min(
        bucket_of.remaining(rule.bucket, state.bucket, now),
        rule.sort.remaining(rule.inner, state.window, now)
      )
    end,
    reset = function(rule, state, now)
      return max(
        bucket_of.reset(rule.bucket, state.bucket, now),
        rule.sort.reset(rule.inner, state.window, now)
      )
    end,
  }
end
