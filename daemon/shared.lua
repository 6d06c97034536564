#!lua name=cloutd
--[[ SPDX-License-Identifier: Apache-2.0
shared.lua - one account fed from several partitions: write one part of it, and show the sum of all parts.

   FCALL cloutd_write 1+n <account key> <board key of each window> <arguments>

      1    field of the part: _s<source>
      2    the packed state (include/cloutd/state.h); empty: this part goes, whoever it belongs to has left
      3    the account's id: the member of the boards
      4    policy version
      5    number of the headline among the windows, from 1
      6    1: boards are kept; 0: nobody is on one
      7    points of each cell, separated by blanks
      8..  names of the n windows, "all" last

The hash then has the part; for each window the points of the sum of all parts' rows, with `score` and `cells` for the
headline; `next`, the least of all parts (absent: none); `pol`; `_src`, which names a part that is there (it changes only when
that one goes); and `at`: the latest of the parts' moments, but before `next`, so that no part's rows are of another time than the sum's, and never earlier
than it was.  On the board of a window stands who has points > 0 there.  When no part is left, hash and members go.
Returns the number of parts; negative, when one of them is lost.  Nothing, and nothing is done, when a part that is not there
shall go and there are others: who leaves where she was never counted does not touch what is counted elsewhere.

Lost is a part that cannot be read; and where the key is of another type, in shared mode, what every source had there.  It is
left as an empty field, and its source is told by `lost` of its own key, so that it writes all its accounts anew.  Until each
has written its part, the account has its parts but no new sum: nobody sees one that lacks something.

   FCALL cloutd_back 2 <account key> <optout> <field of the part> <the packed state> <salted id>

Behind the write of a part, in the same EXEC: who returned is taken off `optout` if the part was written, else stays left.
Returns how many were taken off.

   FCALL cloutd_clear 1 <account key>

Before a write in keyed mode: deletes the key if it is of another type.  Not if it is a hash by now: another source has met it
too, and has written.  Returns how many were deleted.

Lua counts in doubles.  Sums are exact while a count is below 2^53, all parts together; points are exact whatever they
are, and stop at the ends of 64 bits, as scoring_points() does. ]]

local HALF = 67108864 -- 2^26

-- The LEB128 number at @at, and what is behind it.  (Behind the end there is nil, which cannot be compared: an error.)
local function leb(packed, at)
  local value, unit = 0, 1
  local b = packed:byte(at)
  while b >= 128 do
    value, unit = value + (b - 128) * unit, unit * 128
    at = at + 1
    b = packed:byte(at)
  end
  return value + b * unit, at + 1
end

-- Add the row at @at (a mask, then a zigzag count for each of its bits) to @sum.
local function add_row(sum, packed, at)
  local mask, cell, count
  mask, at = leb(packed, at)
  cell = 1
  while mask > 0 do
    if mask % 2 == 1 then
      count, at = leb(packed, at)
      sum[cell] = sum[cell] + (count % 2 == 0 and count / 2 or -(count + 1) / 2)
    end
    mask, cell = (mask - mask % 2) / 2, cell + 1
  end
  return at
end

-- The head of a state: version, gen, pos, (at), reg, boards, (next), (rows_len), rows.  A number is some bytes with the
-- high bit, and one without.
local NUMBER = '[\128-\255]*[%z\1-\127]'
local HEAD = '^[\2\3]' .. NUMBER .. NUMBER .. '()' .. NUMBER .. NUMBER .. NUMBER .. '()' .. NUMBER .. '()' .. NUMBER .. '()'

-- Add a part to @sums, a row for each window; returns its `at` and `next`.
local function add_part(sums, packed)
  local moment_at, change_at, len_at, rows = packed:match(HEAD)
  local moment, next_change, rows_len = leb(packed, moment_at), leb(packed, change_at), leb(packed, len_at)
  local at = rows
  for w = 1, #sums - 1 do at = add_row(sums[w], packed, at) end
  if at ~= rows + rows_len or at > #packed - 3 then error('other windows') end
  if at < #packed - 3 then add_row(sums[#sums], packed, at) end -- a history begins with the row of "all"
  return moment, next_change
end

-- The points of a row, as text, and whether they are above zero.  In two halves, since count * points may pass 2^53.
local function total(row, points)
  local high, low = 0, 0
  for cell = 1, #points do
    local rest = row[cell] % HALF
    high = high + (row[cell] - rest) / HALF * points[cell]
    low = low + rest * points[cell]
  end
  high, low = high + (low - low % HALF) / HALF, low % HALF
  local above = high > 0 or (high == 0 and low > 0)
  if high >= -HALF and high < HALF then return ('%.0f'):format(high * HALF + low), above end
  if high >= 2 ^ 37 then return '9223372036854775807', above end
  if high < -2 ^ 37 then return '-9223372036854775808', above end
  local sign = ''
  if high < 0 then
    sign, high, low = '-', -high, -low
    if low < 0 then high, low = high - 1, low + HALF end
  end
  -- decimal digits: the last seven apart from the rest, each exact
  local rest = high % 1e7 * HALF + low
  high = (high - high % 1e7) / 1e7 * HALF + (rest - rest % 1e7) / 1e7
  return ('%s%.0f%07.0f'):format(sign, high, rest % 1e7), above
end

-- The parts of @these sources (nil: of all, but for ours) are lost.  Who never claimed has none.
local function lose(key, prefix, ours, these)
  local sources = redis.call('HGETALL', prefix .. 'sources')
  if not these then redis.call('DEL', key) end
  for i = 1, #sources, 2 do
    local own, field = prefix .. 'own:' .. sources[i], '_s' .. sources[i + 1]
    if field ~= ours and (not these or these[field]) then
      local claimed = redis.pcall('HEXISTS', own, 'low') -- an error: of another type, and all is written anew because of that
      if claimed == 1 then redis.call('HINCRBY', own, 'lost', 1) end
      if claimed ~= 0 then redis.call('HSET', key, field, '') end
    end
  end
end

local points_of = {} -- the last table of points, by its text

local function write(keys, args)
  local key, field, packed, id = keys[1], args[1], args[2], args[3]
  local headline, on_boards, n = tonumber(args[5]), args[6] == '1', #args - 7
  local prefix = string.sub(key, 1, #key - #id - 2)
  local hash, sums, parts, lost, damaged = redis.pcall('HGETALL', key), {}, {}, false, {}
  local at, at_was, next_change, source, sourced, had = 0, 0, 0, nil, false, false

  local points = points_of[args[7]]
  if not points then
    points = {}
    for p in string.gmatch(args[7], '%S+') do points[#points + 1] = tonumber(p) end
    points_of = {[args[7]] = points}
  end
  if hash.err then
    if string.sub(hash.err, 1, 9) ~= 'WRONGTYPE' or redis.call('GET', prefix .. 'mode') ~= 'shared' then return hash end
    lose(key, prefix, field)
    had = true -- perhaps
    hash = redis.call('HGETALL', key)
  end
  for w = 1, n do
    sums[w] = {}
    for cell = 1, #points do sums[w][cell] = 0 end
  end
  if packed ~= '' then parts[1] = {field, packed} end
  for i = 1, #hash, 2 do
    local name, value = hash[i], hash[i + 1]
    if name == 'at' then at_was = tonumber(value) or 0 end
    if name == '_src' then source = '_s' .. value end
    if name == field then had = true end
    if name ~= field and string.find(name, '^_s%d') then parts[#parts + 1] = {name, value} end
  end
  for _, part in ipairs(parts) do
    sourced = sourced or part[1] == source
    local good, moment, change = pcall(add_part, sums, part[2])
    if not good then
      lost = true
      if part[2] ~= '' then damaged[part[1]] = true end
    else
      if moment > at then at = moment end
      if change > 0 and (next_change == 0 or change < next_change) then next_change = change end
    end
  end
  if #parts == 0 then
    redis.call('DEL', key)
    for w = 1, n do redis.pcall('ZREM', keys[1 + w], id) end -- nobody is on one that is of another type
    return 0
  end
  if packed == '' and not had then return false end
  if lost then
    if next(damaged) then lose(key, prefix, field, damaged) end
    if not sourced then redis.call('HSET', key, '_src', string.sub(parts[1][1], 3)) end
    if packed ~= '' then redis.call('HSET', key, field, packed) else redis.call('HDEL', key, field) end
    return -#parts
  end
  if next_change > 0 and at >= next_change then at = next_change - 1 end
  if at < at_was then at = at_was end

  local refused -- a board is of another type: the part is written, or goes, all the same
  local fields, cells = {'at', ('%.0f'):format(at), 'pol', args[4]}, {}
  for w = 1, n do
    local text, above = total(sums[w], points)
    fields[#fields + 1], fields[#fields + 2] = args[7 + w], text
    if w == headline then fields[#fields + 1], fields[#fields + 2] = 'score', text end
    local placed
    if above and on_boards then
      placed = redis.pcall('ZADD', keys[1 + w], text, id)
    else
      placed = redis.pcall('ZREM', keys[1 + w], id)
    end
    if type(placed) == 'table' then refused = placed end
  end
  for cell = 1, #points do cells[cell] = ('%.0f'):format(sums[headline][cell]) end
  fields[#fields + 1], fields[#fields + 2] = 'cells', table.concat(cells, ' ')
  if next_change > 0 then fields[#fields + 1], fields[#fields + 2] = 'next', ('%.0f'):format(next_change) end
  if not sourced then fields[#fields + 1], fields[#fields + 2] = '_src', string.sub(parts[1][1], 3) end
  if packed ~= '' then fields[#fields + 1], fields[#fields + 2] = field, packed end
  redis.call('HSET', key, unpack(fields))
  if next_change == 0 then redis.call('HDEL', key, 'next') end
  if packed == '' then redis.call('HDEL', key, field) end
  return refused or #parts
end

local function back(keys, args)
  local key, optout, field, packed, salted = keys[1], keys[2], args[1], args[2], args[3]
  if redis.call('TYPE', key).ok ~= 'hash' or redis.call('HGET', key, field) ~= packed then return 0 end
  return redis.call('SREM', optout, salted)
end

local function clear(keys)
  if redis.call('TYPE', keys[1]).ok == 'hash' then return 0 end
  return redis.call('DEL', keys[1])
end

redis.register_function('cloutd_write', write)
redis.register_function('cloutd_clear', clear)
redis.register_function('cloutd_back', back)
