-- One key of one counter is a cell (headgate.engine.counting): it is read once for a batch, and what changed is
-- written once, at the end. In Redis it is a string:
--   'hg1', version, recipe, more, state...      packed one after the other
-- where `recipe` is the settings as a node packed them, and `more` is false or
--   {changed_at, window before (us, ns), when the log expires, ledger}.
-- The log of a cell, if it has one, is at the same key followed by ':log'.

local MAGIC = 'hg1'
local GRACE_MS = 2000 -- so that a clock that goes back a little does not find less than there was

local cells, order = {}, {}
local rules = {} -- by recipe
local sorts = {}

-- The functions of a sort of limit; made when they are needed, because most batches need but one.
local function sort_of(kind)
  local found = sorts[kind]
  if found then return found end
  if kind == 1 then
    found = gcra()
  elseif kind == 2 then
    found = fixed_window()
  elseif kind == 3 then
    found = sliding_window_counter()
  elseif kind == 4 then
    found = event_log()
  else
    found = dual(sort_of(1))
  end
  sorts[kind] = found
  return found
end

local function cell_book(now)
  local function unreadable(cell)
    cell.bad = true
    error({unreadable = true})
  end

  -- An answer that is an error; one of the wrong type concerns this key alone.
  local function is_error(reply)
    if type(reply) ~= 'table' or not reply.err then return false end
    if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply) end
    return true
  end

  -- The rule of a calendar has to know the periods around now.
  local function require_place(recipe, rule)
    if rule.bounds and not rule.place then error({again = recipe}) end
  end

  local function state_of(rule, key, a, b, c, d)
    local state = rule.ops.create(key .. ':log', rule)
    if rule.kind == 5 then
      state.bucket[1], state.bucket[2] = a, b
      if not rule.inner.logs then state.window[1], state.window[2] = c, d end
    elseif not rule.logs then
      state[1], state[2] = a, b
    end
    return state
  end

  -- The log that a state keeps, if it does.
  local function log_of(rule, state)
    if not rule.logs then return nil end
    if rule.kind == 5 then return state.window end
    return state
  end

  local function clear(cell)
    cell.state = state_of(cell.rule, cell.key)
    local log = log_of(cell.rule, cell.state)
    if log then sort_of(4).clear(log) end
  end

  -- What is told to nodes has to be text that they can read.
  local function is_plain(text)
    return type(text) == 'string' and #text < 256 and not string.find(text, '[^ -~]')
  end

  local function are_numbers(array, first, last)
    for place = first, last do
      if type(array[place]) ~= 'number' then return false end
    end
    return true
  end

  local function is_more(more)
    if type(more) ~= 'table' or not are_numbers(more, 1, 4) then return false end
    local ledger = more[5]
    if not ledger then return true end
    if type(ledger) ~= 'table' or not are_numbers(ledger, 1, 3) or type(ledger[4]) ~= 'table' then
      return false
    end
    for _, entry in ipairs(ledger[4]) do
      if type(entry) ~= 'table' or type(entry[NODE]) ~= 'string' or not are_numbers(entry, SEQ, LAST_AGAIN) then
        return false
      end
    end
    return true
  end

  local function is_cell(magic, version, recipe)
    return magic == MAGIC and type(version) == 'number' and is_plain(recipe)
  end

  -- The ledger of a key, whatever its settings; nothing is altered.
  local function ledger_of(key)
    local packed = redis.pcall('GET', key)
    if is_error(packed) then error({unreadable = true}) end
    if not packed then return nil end
    local fine, magic, version, recipe, more = pcall(cmsgpack.unpack, packed)
    if not fine or not is_cell(magic, version, recipe) or (more and not is_more(more)) then
      error({unreadable = true})
    end
    return more and more[5] or nil
  end

  local function read_cell(cell, packed)
    local fine, magic, version, recipe, more, a, b, c, d = pcall(cmsgpack.unpack, packed)
    if not fine or not is_cell(magic, version, recipe) then unreadable(cell) end
    local rule = rules[recipe]
    if not rule then error({again = recipe}) end
    require_place(recipe, rule)
    cell.version, cell.recipe, cell.rule, cell.ops = version, recipe, rule, rule.ops
    if more then
      if not is_more(more) then unreadable(cell) end
      cell.changed_at, cell.before_us, cell.before_ns = more[1], more[2], more[3]
      cell.log_expires, cell.ledger = more[4], more[5] or nil
    end
    cell.state = state_of(rule, cell.key, a, b, c, d)
    if not rule.ops.is_valid(cell.state, rule) then unreadable(cell) end
    cell.is_stored = true
  end

  local function start_anew(cell, want)
    cell.version, cell.recipe, cell.rule, cell.ops = want.version, want.recipe, want.rule, want.rule.ops
    cell.changed_at, cell.before_us, cell.before_ns, cell.log_expires = 0, 0, 0, 0
    cell.ledger = nil
    clear(cell)
  end

  -- Go on under other settings: what was spent under the old ones is spent anew.
  local function convert(cell, want)
    local old, log = cell.rule, log_of(cell.rule, cell.state)
    local spent = 0
    if not cell.ops.is_none(cell.state) then
      local window, state = old, cell.state
      if old.kind == 5 then window, state = old.inner, cell.state.window end
      spent = min(window.capacity - window.ops.remaining(window, state, now), want.rule.capacity)
    end
    if log then cell.drops_log = true end
    if want.rule.logs then cell.drops_log = false end -- it is written anew
    cell.recipe, cell.rule, cell.ops = want.recipe, want.rule, want.rule.ops
    cell.changed_at, cell.before_us, cell.before_ns = now, old.wu, old.wn
    clear(cell)
    if spent > 0 then
      cell.ops.consume(cell.rule, cell.state, spent, now)
    elseif not cell.ledger then
      cell.is_void = true
    end
    cell.is_dirty, cell.is_altered = true, true
  end

  local function cell_of(key, want)
    local cell = cells[key]
    if not cell then
      require_place(want.recipe, want.rule)
      cell = {key = key}
      local packed = redis.pcall('GET', key)
      if is_error(packed) then
        cells[key] = cell
        unreadable(cell)
      end
      if packed then
        cell.changed_at, cell.before_us, cell.before_ns, cell.log_expires = 0, 0, 0, 0
        read_cell(cell, packed)
      else
        start_anew(cell, want)
      end
      cells[key] = cell
      order[#order + 1] = cell
    elseif cell.bad then
      unreadable(cell)
    end
    if not cell.is_stored and not cell.is_dirty or cell.is_void then
      -- Nothing is known of this key: it is as the question says.
      if cell.recipe ~= want.recipe or cell.version ~= want.version then
        require_place(want.recipe, want.rule)
        start_anew(cell, want)
      end
    elseif want.version >= cell.version then
      if want.version > cell.version then
        cell.version, cell.is_dirty, cell.is_altered = want.version, true, true
      end
      if cell.recipe ~= want.recipe then
        require_place(want.recipe, want.rule)
        convert(cell, want)
      end
    end
    return cell
  end

  -- It was changed, and is not what nobody knows of any more.
  local function touch(cell)
    cell.is_dirty, cell.is_void = true, false
  end

  local function refund(cell, cost, granted_at)
    if cell.ops.is_none(cell.state) then return end
    if cell.rule.permits and granted_at < cell.changed_at then
      -- Permits that were out when the limit changed were all taken anew at that moment.
      local since = cell.changed_at - granted_at
      if since > cell.before_us or (since == cell.before_us and cell.before_ns == 0) then return end
      granted_at = cell.changed_at
    end
    cell.ops.refund(cell.rule, cell.state, cost, now, granted_at)
    touch(cell)
  end

  local function pay(cell, cost)
    local payable = min(cost, cell.ops.remaining(cell.rule, cell.state, now))
    if payable > 0 then
      cell.ops.consume(cell.rule, cell.state, payable, now)
      touch(cell)
    end
  end

  -- Milliseconds until a cell carries no information.
  local function life_of(cell)
    local life = ceil(cell.ops.reset(cell.rule, cell.state, now) / 1000000)
    if cell.ledger then
      for _, entry in ipairs(cell.ledger[4]) do
        life = max(life, ceil((entry[EXPIRES] - now) / 1000))
      end
    end
    return life + GRACE_MS
  end

  local function pack_cell(cell)
    local more, state, rule = false, cell.state, cell.rule
    if cell.ledger or cell.changed_at > 0 or rule.logs then
      more = {cell.changed_at, cell.before_us, cell.before_ns, cell.log_expires, cell.ledger or false}
    end
    if rule.kind == 5 then
      local bucket, window = state.bucket, state.window
      return cmsgpack.pack(MAGIC, cell.version, cell.recipe, more, bucket[1], bucket[2], window[1], window[2])
    end
    return cmsgpack.pack(MAGIC, cell.version, cell.recipe, more, state[1], state[2])
  end

  local function write_cell(cell, extra_ms)
    local log = log_of(cell.rule, cell.state)
    if cell.is_void then
      if log then sort_of(4).write(log) end
      if cell.is_stored then redis.call('DEL', cell.key) end
      if cell.drops_log then redis.call('DEL', cell.key .. ':log') end
      return
    end
    local life = life_of(cell) + extra_ms
    if log then
      -- Two windows ahead, so that most admissions need not say it anew.
      local is_new = sort_of(4).write(log) or log.is_new
      if is_new or cell.log_expires < now + life * 1000 then
        life = 2 * life
        cell.log_expires, cell.is_altered = now + life * 1000, true
        redis.call('PEXPIRE', cell.key .. ':log', life)
      end
      if cell.is_stored and not cell.is_altered and not cell.ledger and cell.rule.kind ~= 5 then return end
      life = max(1, ceil((cell.log_expires - now) / 1000))
    end
    redis.call('SET', cell.key, pack_cell(cell), 'PX', life)
    if cell.drops_log then redis.call('DEL', cell.key .. ':log') end
  end

  return {
    is_error = is_error,
    are_numbers = are_numbers,
    is_plain = is_plain,
    ledger_of = ledger_of,
    cell_of = cell_of,
    touch = touch,
    refund = refund,
    pay = pay,
    write_cell = write_cell,
  }
end
