-- Where reading starts: at "end", "beginning", an "offset" or a "time" in microseconds since the epoch.

local function parse_start()
  return { kind = take(), value = tonumber(take()) }
end

local MILLISECOND = 1000 -- the most messages that a millisecond has: each has a microsecond of its own

local function at_offset(stream, offset) -- the first entry from this offset on
  local first = redis.call('XRANGE', stream.key, '-', '+', 'COUNT', 1)[1]
  local last = redis.call('XREVRANGE', stream.key, '+', '-', 'COUNT', 1)[1]
  if not first then return nil end
  local low, high = tonumber(string.match(first[1], '^%d+')), tonumber(string.match(last[1], '^%d+'))
  while low < high do -- the last millisecond that begins at or before the offset
    local middle = math.ceil((low + high) / 2)
    local entry = redis.call('XRANGE', stream.key, whole(middle), '+', 'COUNT', 1)[1]
    if offset_of(entry[1]) <= offset then low = middle else high = middle - 1 end
  end
  for _, entry in ipairs(redis.call('XRANGE', stream.key, whole(low), '+', 'COUNT', MILLISECOND + 1)) do
    if offset_of(entry[1]) >= offset then return entry[1] end
  end
  return nil
end

local function at_time(stream, time) -- the first entry from this time on
  for _, entry in ipairs(redis.call('XRANGE', stream.key, whole(math.floor(time / 1000)), '+', 'COUNT', MILLISECOND + 1)) do
    if time_of(entry[1]) >= time then return entry[1] end
  end
  return nil
end

local function before(id) -- an id that is less, and not less than that of the entry before; by its offset it is just that
  local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
  if offset_of(id) > 0 then return ms .. '-' .. whole(offset_of(id) * 1000 - 1) end
  if tonumber(sequence) > 0 then return ms .. '-' .. whole(tonumber(sequence) - 1) end
  return whole(ms - 1) .. '-18446744073709551615'
end

local function locate(stream, start) -- the id after which reading starts, and how many messages came before that
  if redis.call('EXISTS', stream.key) == 0 then return '0-0', 0 end
  local info, fields = redis.call('XINFO', 'STREAM', stream.key), {}
  for place = 1, #info, 2 do fields[info[place]] = info[place + 1] end
  local added, length = fields['entries-added'], fields['length']
  if start.kind == 'beginning' or length == 0 and start.kind ~= 'end' then return '0-0', added - length end
  local first
  if start.kind == 'offset' then first = at_offset(stream, start.value) end
  if start.kind == 'time' then first = at_time(stream, start.value) end
  if not first then return fields['last-generated-id'], added end
  local oldest = redis.call('XRANGE', stream.key, '-', '+', 'COUNT', 1)[1][1]
  return first == oldest and '0-0' or before(first), math.max(offset_of(first), added - length)
end

local function place_group(state, stream, group, start)
  local id, read = locate(stream, start)
  redis.call('XGROUP', 'CREATE', stream.key, group, id, 'MKSTREAM', 'ENTRIESREAD', whole(read))
end
