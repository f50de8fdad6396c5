-- What all scripts share: the names of keys, the clock, topics and their streams, storing a message, waking who waits.
-- Times are microseconds since the epoch. The one key that a script is given is the prefix of the bus.

local PREFIX = KEYS[1]
local NOBODY = '~' -- the consumer that has what waits for its turn to be delivered again

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function key(kind, name)
  return PREFIX .. ':' .. kind .. ':' .. name
end

local function of_group(kind, topic, group) -- no topic has a '#' in its name
  return PREFIX .. ':' .. kind .. ':' .. topic .. '#' .. group
end

local function whole(number)
  return string.format('%.0f', number)
end

-- What was read of the arguments so far.
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end
local function take_number()
  return tonumber(take())
end

-- Topics ------------------------------------------------------------------------------------------------------------

local FIELDS = { 'version', 'mode', 'partitions', 'levels', 'max_length', 'overflow', 'retention', 'time', 'born',
  'dedup_window', 'max_subscribers' }

local states = {}

local function state_of(topic) -- nil: there is none of this name
  local state = states[topic]
  if state == nil then
    local found = redis.call('HMGET', key('topic', topic), unpack(FIELDS))
    if not found[1] then return nil end
    state = { name = topic, key = key('topic', topic), next = {} }
    for place, field in ipairs(FIELDS) do state[field] = found[place] or nil end
    state.partitions = tonumber(state.partitions)
    state.time = tonumber(state.time or '0')
    states[topic] = state
  end
  return state
end

local function suffix_of(partition, level)
  if partition == 0 and level == 5 then return '' end
  return '#' .. partition .. '.' .. level
end

local function stream_of(topic, suffix)
  return PREFIX .. ':stream:' .. topic .. suffix
end

local function streams_of(state) -- each: its suffix, partition, level and key
  if state.streams then return state.streams end
  local streams = {}
  for level in string.gmatch(state.levels, '%d') do
    for partition = 0, state.partitions - 1 do
      local suffix = suffix_of(partition, tonumber(level))
      streams[#streams + 1] = { suffix = suffix, partition = partition, level = tonumber(level),
        key = stream_of(state.name, suffix) }
    end
  end
  state.streams = streams
  return streams
end

local function groups_on(topic)
  return redis.call('SMEMBERS', key('on', topic))
end

local function time_of(id) -- ids are <milliseconds>-<offset * 1000 + microseconds>
  local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
  return ms * 1000 + math.fmod(tonumber(sequence), 1000)
end

-- Consumers from which something was taken: -----------------------------------------------------------------------------
-- what such a one settles is looked up; of all others it is known that what they settle is theirs.

local STOLEN = PREFIX .. ':stolen'

local function steal_all(stream, group) -- whoever holds something loses it
  local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  if consumers.err then return end
  for _, flat in ipairs(consumers) do redis.call('HINCRBY', STOLEN, flat[2], 1) end
end

-- Waking ------------------------------------------------------------------------------------------------------------

local function wake(kind, topic) -- everybody who waits for this topic: for messages, or for room
  local set = key(kind, topic)
  local channels = redis.call('SMEMBERS', set)
  if #channels > 0 then
    redis.call('DEL', set)
    for _, channel in ipairs(channels) do redis.call('PUBLISH', channel, topic) end
  end
end

local function is_alive(channel)
  return redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0
end

local function tell_news()
  redis.call('PUBLISH', PREFIX .. '::news', '')
end

-- How groups stand on a stream ---------------------------------------------------------------------------------------

-- How much a group has not read goes by the offsets that ids have: what Redis itself counts is wrong after a restart.
-- Where foreign programs have added entries, there is only that.

local function offset_of(id)
  return math.floor(tonumber(string.match(id, '%-(%d+)$')) / 1000)
end

local function unread_after(last, next, cut, length, told)
  if next ~= cut + length then return told or length end
  if string.sub(last, 1, 2) == '0-' then return length end
  return next - math.max(cut, offset_of(last) + 1)
end

local function standings(state, stream) -- group -> { last, read, unread, pending }
  local found = {}
  if redis.call('EXISTS', stream.key) == 0 then return found end
  local numbers = redis.call('HMGET', state.key, 'next' .. stream.suffix, 'cut' .. stream.suffix)
  local next = state.next[stream.suffix] or tonumber(numbers[1] or '0')
  local cut, length = tonumber(numbers[2] or '0'), redis.call('XLEN', stream.key)
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream.key)) do
    local fields = {}
    for place = 1, #flat, 2 do fields[flat[place]] = flat[place + 1] end
    found[fields['name']] = { last = fields['last-delivered-id'], read = fields['entries-read'] or nil,
      unread = unread_after(fields['last-delivered-id'], next, cut, length, fields['lag'] or nil),
      pending = fields['pending'] }
  end
  return found
end

local function lags(state) -- group -> messages that it has not settled
  local total = {}
  for _, stream in ipairs(streams_of(state)) do
    for group, standing in pairs(standings(state, stream)) do
      total[group] = (total[group] or 0) + standing.unread + standing.pending
    end
  end
  return total
end

local function later(one, other) -- whether the first id is greater
  local a, b = string.match(one, '^(%d+)%-(%d+)$')
  local c, d = string.match(other, '^(%d+)%-(%d+)$')
  a, c = tonumber(a), tonumber(c)
  if a ~= c then return a > c end
  return tonumber(b) > tonumber(d)
end

-- Storing -----------------------------------------------------------------------------------------------------------

local function add_level(state, level) -- the streams of a priority are made when it is first used
  if string.find(state.levels, tostring(level), 1, true) then return end
  state.levels = state.levels .. level
  state.streams = nil
  redis.call('HSET', state.key, 'levels', state.levels)
  for _, group in ipairs(groups_on(state.name)) do
    for partition = 0, state.partitions - 1 do
      redis.call('XGROUP', 'CREATE', stream_of(state.name, suffix_of(partition, level)), group, '0', 'MKSTREAM')
    end
  end
end

local function store_after(state, suffix, offset, fields, fault) -- an entry that somebody else gave a time in the future
  local stream = stream_of(state.name, suffix)
  local info = redis.call('XINFO', 'STREAM', stream)
  local last
  for place = 1, #info, 2 do
    if info[place] == 'last-generated-id' then last = tonumber(string.match(info[place + 1], '^(%d+)')) end
  end
  if last * 1000 < state.time then return fault end
  state.time = (last + 1) * 1000
  redis.call('XADD', stream, string.format('%.0f-%.0f', last + 1, offset * 1000), unpack(fields))
  return offset
end

local function store(state, partition, level, fields) -- return the offset
  local suffix = suffix_of(partition, level)
  local offset = state.next[suffix] or tonumber(redis.call('HGET', state.key, 'next' .. suffix) or '0')
  state.next[suffix] = offset + 1
  state.time = math.max(now, state.time + 1)
  if state.mode ~= 'p' or state.collected then
    local id = string.format('%.0f-%.0f', math.floor(state.time / 1000), offset * 1000 + math.fmod(state.time, 1000))
    local added = redis.pcall('XADD', stream_of(state.name, suffix), id, unpack(fields))
    if added.err then return store_after(state, suffix, offset, fields, added) end
  end
  return offset
end

local function oldest_needed(state, stream) -- the id before which every group is done; nil without groups
  local oldest
  for group, standing in pairs(standings(state, stream)) do
    local needed = standing.last
    if standing.pending > 0 then
      local first = redis.call('XPENDING', stream.key, group)[2]
      if later(needed, first) then needed = first end
    end
    if oldest == nil or later(oldest, needed) then oldest = needed end
  end
  return oldest
end

local TRIMMED = 1000 -- messages looked at by one trimming: each publish does its share

local function trim(state, stream)
  local needed = oldest_needed(state, stream)
  local length = redis.call('XLEN', stream.key)
  local bound
  if state.mode == 'p' then
    bound = needed
  else
    local limits = redis.call('HMGET', state.key, 'retention_messages', 'retention_bytes', 'retention_period',
      'bytes' .. stream.suffix, 'next' .. stream.suffix)
    local kept = tonumber(limits[1] or 'inf') or length
    if limits[2] then
      local size = (tonumber(limits[4]) or 0) / math.max(1, tonumber(limits[5]) or 1)
      kept = math.min(kept, math.max(1, math.floor(limits[2] / math.max(1, size))))
    end
    if length > kept then
      local surplus = redis.call('XRANGE', stream.key, '-', '+', 'COUNT', math.min(TRIMMED, length - kept) + 1)
      bound = surplus[#surplus][1]
    end
    if limits[3] then
      local young = string.format('%.0f-0', math.floor(now / 1000 - limits[3] * 1000))
      if bound == nil or later(young, bound) then bound = young end
    end
    if bound and needed and later(bound, needed) then bound = needed end
  end
  if bound then
    local cut = redis.call('XTRIM', stream.key, 'MINID', bound)
    if cut > 0 then redis.call('HINCRBY', state.key, 'cut' .. stream.suffix, cut) end
  end
end

local function skip_oldest(state) -- let the groups that are behind pass over their oldest unread messages
  local bound = tonumber(state.max_length)
  for group, lag in pairs(lags(state)) do
    local surplus = lag - bound
    local heads = {}
    if surplus > 0 then
      for _, stream in ipairs(streams_of(state)) do
        local standing = standings(state, stream)[group]
        if standing then
          for _, entry in ipairs(redis.call('XRANGE', stream.key, '(' .. standing.last, '+', 'COUNT', surplus)) do
            heads[#heads + 1] = { time_of(entry[1]), entry[1], stream, standing }
          end
        end
      end
    end
    table.sort(heads, function(one, other) return one[1] < other[1] end)
    local skipped = math.min(surplus, #heads)
    for place = 1, skipped do
      local head = heads[place]
      local stream, standing = head[3], head[4]
      standing.read = (standing.read or 0) + 1
      redis.call('XGROUP', 'SETID', stream.key, group, head[2], 'ENTRIESREAD', whole(standing.read))
    end
    if skipped > 0 then redis.call('HINCRBY', of_group('group', state.name, group), 'skipped', skipped) end
  end
end

local function finish(state) -- after storing: keep the numbers, trim, drop, wake
  local changed = { 'time', whole(state.time) }
  for suffix, following in pairs(state.next) do
    changed[#changed + 1] = 'next' .. suffix
    changed[#changed + 1] = whole(following)
  end
  redis.call('HSET', state.key, unpack(changed))
  if state.max_length and state.overflow == 'drop_oldest' then skip_oldest(state) end
  if state.retention or state.collected then
    for _, stream in ipairs(streams_of(state)) do
      if state.next[stream.suffix] then trim(state, stream) end
    end
  end
  wake('waiting', state.name)
end

local function begin(state)
  if state.mode == 'p' and state.collected == nil then
    state.collected = redis.call('SCARD', key('on', state.name)) > 0
  end
end

-- Ids of exactly-once topics: id -> "<until> <partition> <offset> <number>"; the number of one that is scheduled, or -1.

local FORGOTTEN = 100 -- ids forgotten by one publish: more than it adds, on average

local function remember(state, id, partition, offset, number, till)
  redis.call('HSET', key('places', state.name), id, string.format('%.0f %.0f %.0f %.0f', till, partition, offset, number))
  redis.call('ZADD', key('ids', state.name), whole(till), id)
end

local function recall(state, id) -- its place, nil when it is not known
  local place = redis.call('HGET', key('places', state.name), id)
  if not place then return nil end
  local till, partition, offset, number = string.match(place, '^(%d+) (%-?%d+) (%-?%d+) (%-?%d+)$')
  if tonumber(till) <= now then return nil end
  return { tonumber(partition), tonumber(offset), tonumber(number), tonumber(till) }
end

local function forget_old(state)
  local old = redis.call('ZRANGEBYSCORE', key('ids', state.name), '-inf', whole(now), 'LIMIT', 0, FORGOTTEN)
  if #old > 0 then
    redis.call('ZREM', key('ids', state.name), unpack(old))
    redis.call('HDEL', key('places', state.name), unpack(old))
  end
end

-- What is to be delivered later --------------------------------------------------------------------------------------

local MOVED = 1000 -- scheduled messages stored at a time

local function move_due(state) -- store what has become due
  local set = key('later', state.name)
  local numbers = redis.call('ZRANGEBYSCORE', set, '-inf', whole(now), 'LIMIT', 0, MOVED)
  if #numbers == 0 then return end
  begin(state)
  for _, number in ipairs(numbers) do
    local partition, level, id, payload, fields = unpack(cmsgpack.unpack(redis.call('HGET', key('letters', state.name), number)))
    add_level(state, level)
    local offset = store(state, partition, level, fields)
    local place = state.mode == 'e' and recall(state, id)
    if place then remember(state, id, partition, offset, -1, place[4]) end
    if state.mode == 'p' then redis.call('PUBLISH', state.name, payload) end
  end
  redis.call('ZREM', set, unpack(numbers))
  redis.call('HDEL', key('letters', state.name), unpack(numbers))
  finish(state)
end

local function first_score(set)
  local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]
  return first and tonumber(first)
end

-- Publishing: parsed first, refused or done afterwards ----------------------------------------------------------------

local function parse_batch() -- topic, version, level, due, then the records
  local batch = { topic = take(), version = take(), level = take_number(), due = take_number(), records = {} }
  for place = 1, take_number() do
    local partition, data, id, kind, payload, extra = take_number(), take(), take(), take(), take(), take_number()
    local fields = { 'data', data, 'Tidings-Id', id, 'Content-Type', kind }
    for step = 1, extra do fields[6 + step] = take() end
    batch.records[place] = { partition, id, payload, fields }
  end
  return batch
end

local function objection(batch) -- why it cannot be published now, nil if it can
  local state = state_of(batch.topic)
  if not state or state.version ~= batch.version then return { 'stale', batch.topic } end
  if state.max_length and state.overflow ~= 'drop_oldest' and batch.due <= now then
    local bound = tonumber(state.max_length)
    for group, lag in pairs(lags(state)) do
      local fresh = #batch.records
      if lag + fresh + (state.coming or 0) > bound then return { 'full', batch.topic, bound, group, state.overflow } end
    end
    state.coming = (state.coming or 0) + #batch.records
  end
  return nil
end

local function publish(batch) -- return what the receipts are made of: partition, offset, number, duplicate of each
  local state = state_of(batch.topic)
  begin(state)
  move_due(state)
  local scheduled, places, bytes = batch.due > now, {}, {}
  if state.mode == 'e' then forget_old(state) end
  if not scheduled then add_level(state, batch.level) end
  for turn, record in ipairs(batch.records) do
    local partition, id, payload, fields = unpack(record)
    local place = state.mode == 'e' and recall(state, id)
    if place then
      places[turn] = { place[1], place[2], place[3], 1 }
    else
      local offset, number = -1, -1
      if scheduled then
        number = redis.call('INCR', PREFIX .. ':number')
        local name = string.format('%016d', number)
        redis.call('HSET', key('letters', state.name), name, cmsgpack.pack({ partition, batch.level, id, payload, fields }))
        redis.call('ZADD', key('later', state.name), whole(batch.due), name)
      else
        offset = store(state, partition, batch.level, fields)
        if state.mode == 'p' then redis.call('PUBLISH', state.name, payload) end
        local suffix = suffix_of(partition, batch.level)
        bytes[suffix] = (bytes[suffix] or 0) + #fields[2]
      end
      if state.mode == 'e' then
        remember(state, id, scheduled and -1 or partition, offset, number, now + state.dedup_window * 1000000)
      end
      places[turn] = { scheduled and -1 or partition, offset, number, 0 }
    end
  end
  if scheduled then
    wake('waiting', state.name)
  else
    for suffix, size in pairs(bytes) do redis.call('HINCRBY', state.key, 'bytes' .. suffix, size) end
    finish(state)
  end
  return places
end
