-- Numbers beyond what a double holds exactly: a moment or a span is a pair (u, n) of whole microseconds and
-- the rest, with 0 <= n < base parts of a microsecond. With base 1000 the parts are nanoseconds.

local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local EXACT = 9007199254740992 -- 2^53
local NEVER = -1

-- count * (u, n), exactly while the result's microseconds are below 2^53.
local function times(count, u, n, base)
  if n == 0 then return count * u, 0 end
  local parts = count * n
  if parts < EXACT then return count * u + floor(parts / base), parts % base end
  local whole = floor(count / base)
  local rest = (count - whole * base) * n
  return count * u + whole * n + floor(rest / base), rest % base
end

-- floor((au, an) / (bu, bn)), exactly: the double is off by one at most.
local function over(au, an, bu, bn, base)
  if an == 0 and bn == 0 then return floor(au / bu) end
  local found = floor((au * base + an) / (bu * base + bn))
  local u, n = times(found, bu, bn, base)
  if u > au or (u == au and n > an) then return found - 1 end
  u, n = u + bu, n + bn
  if n >= base then u, n = u + 1, n - base end
  if u < au or (u == au and n <= an) then return found + 1 end
  return found
end

-- floor(count * (xu, xn) / (yu, yn)) for x <= y, and whether something was left over. Base 1000.
local function part_of(count, xu, xn, yu, yn)
  if xn == 0 and yn == 0 and count * xu < EXACT then
    local found = floor(count * xu / yu)
    return found, found * yu < count * xu
  end
  -- Long multiplication and division at once, bit by bit: (ru, rn) is the remainder, always below y.
  local bit = 1
  while bit * 2 <= count do bit = bit * 2 end
  local found, ru, rn = 0, 0, 0
  while bit >= 1 do
    found, ru, rn = found * 2, ru * 2, rn * 2
    for add = 0, 1 do
      if add == 1 and count >= bit then
        count, ru, rn = count - bit, ru + xu, rn + xn
      end
      if rn >= 1000 then ru, rn = ru + 1, rn - 1000 end
      if ru > yu or (ru == yu and rn >= yn) then
        found, ru, rn = found + 1, ru - yu, rn - yn
        if rn < 0 then ru, rn = ru - 1, rn + 1000 end
      end
    end
    bit = bit / 2
  end
  return found, ru > 0 or rn > 0
end

-- floor((xu, xn) * count / whole) for count < whole, as a pair. Base 1000.
local function share_of(xu, xn, count, whole)
  local nanoseconds = (xu * 1000 + xn) * count
  if nanoseconds < EXACT then
    local found = floor(nanoseconds / whole)
    return floor(found / 1000), found % 1000
  end
  local each_u = floor(xu / whole)
  local rest = (xu - each_u * whole) * 1000 + xn
  local each_n = floor(rest / whole)
  rest = rest - each_n * whole
  local left = part_of(count, floor(rest / 1000), rest % 1000, floor(whole / 1000), whole % 1000)
  local n = count * each_n + left
  return count * each_u + floor(n / 1000), n % 1000
end
