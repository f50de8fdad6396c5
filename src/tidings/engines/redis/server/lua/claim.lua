-- Lease messages to a consumer of a group.
-- Arguments: its name, the channel of the client, the group, the number of the catalog, how many, the seconds of a lease,
-- "1" to look after the dead, the partitions, "1" for priority order; then the topics.
-- Returns "lost" when the consumer was taken for dead, else what read.lua returns; in it 2 where there may be more in
-- the topic's one stream, which may be read without this script for a while.

local name, channel, group, known, room = take(), take(), take(), take(), take_number()
local lease, watch = take_number(), take() == '1'
local wanted, urgent = parse_wanted(), take() == '1'

if not redis.call('ZSCORE', LEASES, name) then return { 'lost' } end

local streams, due, kept, pieces, count, numbers, more -- of the topic at hand

local function end_leases(state) -- of messages that were kept for a time of their own
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', kept, '-inf', whole(now))) do
    local suffix, id = string.match(member, '^(%S*) (%S+)$')
    redis.call('ZREM', kept, member)
    local stream = stream_of(state.name, suffix)
    local holder = redis.call('XPENDING', stream, group, id, id, 1)[1]
    if holder then redis.call('HINCRBY', STOLEN, holder[2], 1) end
    if #redis.call('XCLAIM', stream, group, NOBODY, 0, id, 'JUSTID') > 0 then
      redis.call('ZADD', due, whole(time_of(id)), member)
    end
  end
end

local function add(suffix, attempt, entries)
  if #entries > 0 then
    pieces[#pieces + 1] = { suffix, attempt, entries }
    count = count + #entries
  end
  return #entries
end

local function again(state, member) -- deliver once more what is due; return whether it still exists
  local suffix, id = string.match(member, '^(%S*) (%S+)$')
  redis.call('ZREM', due, member)
  local stream = stream_of(state.name, suffix)
  local entries = redis.call('XCLAIM', stream, group, name, 0, id)
  if #entries == 0 or not entries[1] then -- it was trimmed by somebody else's hand
    redis.call('XACK', stream, group, id)
    numbers.skipped = numbers.skipped + 1
    return
  end
  local attempt = redis.call('XPENDING', stream, group, id, id, 1)[1][4]
  if state.mode == 'p' then
    redis.call('XACK', stream, group, id)
    numbers.acked = numbers.acked + 1
    attempt = 1
  elseif attempt > 1 then
    numbers.redelivered = numbers.redelivered + 1
  end
  add(suffix, attempt, entries)
end

local LOOKED_AT = 1000 -- messages that are due, looked at for a consumer that takes only some partitions

local function deliver_again(state, level)
  local amount = (wanted or level) and LOOKED_AT or (room - count)
  local accepted = {}
  for _, stream in ipairs(streams) do
    if level == nil or stream.level == level then accepted[stream.suffix] = true end
  end
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', whole(now), 'LIMIT', 0, amount)) do
    if count >= room then return end
    if accepted[string.match(member, '^(%S*) ')] then again(state, member) end
  end
end

local function deliver_new(state, stream, amount)
  local reply
  if state.mode == 'p' then
    reply = redis.call('XREADGROUP', 'GROUP', group, name, 'COUNT', amount, 'NOACK', 'STREAMS', stream.key, '>')
  else
    reply = redis.call('XREADGROUP', 'GROUP', group, name, 'COUNT', amount, 'STREAMS', stream.key, '>')
  end
  if not reply then return 0 end
  local fresh = add(stream.suffix, 1, reply[1][2])
  if state.mode == 'p' then numbers.acked = numbers.acked + fresh end
  return fresh
end

local function deliver_merged(state) -- several priorities in the order of publishing
  local heads = {}
  for _, stream in ipairs(streams) do
    local standing = standings(state, stream)[group]
    for _, entry in ipairs(redis.call('XRANGE', stream.key, '(' .. standing.last, '+', 'COUNT', room - count)) do
      heads[#heads + 1] = { time_of(entry[1]), stream.level, stream }
    end
  end
  table.sort(heads, by_time)
  for place = 1, math.min(room - count, #heads) do deliver_new(state, heads[place][3], 1) end
end

local SMALL = 16 -- new messages of one stream that are delivered here; more are read faster without the script

local function deliver_fresh(state)
  if #streams == 1 and #streams_of(state) == 1 and state.mode ~= 'p' then
    more = deliver_new(state, streams[1], math.min(SMALL, room - count)) == SMALL
    return
  end
  if #state.levels > 1 and not urgent then return deliver_merged(state) end
  local first = #streams > 1 and math.fmod(now, #streams) or 0
  for step = 0, #streams - 1 do
    if count >= room then return end
    deliver_new(state, streams[(first + step) % #streams + 1], room - count)
  end
end

local function deliver_urgent(state) -- the highest priority first, whether it comes again or for the first time
  for level = 9, 0, -1 do
    if string.find(state.levels, tostring(level), 1, true) then
      deliver_again(state, level)
      for _, stream in ipairs(streams) do
        if stream.level == level and count < room then deliver_new(state, stream, room - count) end
      end
    end
  end
end

local answers = {}
while at < #ARGV do
  local topic = take()
  local state = state_of(topic)
  if not state or redis.call('SISMEMBER', key('on', topic), group) == 0 then
    answers[#answers + 1] = { topic, 'gone' }
  elseif room > 0 then
    move_due(state)
    if watch then relieve(state, group, name) end
    streams, due, kept = wanted_streams(state, wanted), of_group('due', topic, group), of_group('kept', topic, group)
    pieces, count, more, numbers = {}, 0, false, { acked = 0, redelivered = 0, skipped = 0 }
    end_leases(state)
    if urgent then
      deliver_urgent(state)
    else
      deliver_again(state, nil)
      if count < room then deliver_fresh(state) end
    end
    for counter, number in pairs(numbers) do
      if number > 0 then redis.call('HINCRBY', of_group('group', topic, group), counter, number) end
    end
    local drained = count < room and not more and 1 or 0
    room = room - count
    local following
    if drained == 1 then redis.call('SADD', key('waiting', topic), channel) end
    local simple = drained == 0 and #streams_of(state) == 1 and state.mode ~= 'p'
    if drained == 1 or simple then
      following = earliest(first_score(due), first_score(kept), first_score(key('later', topic)))
    end
    answers[#answers + 1] = { topic, state.version, state.born, state.mode, simple and 2 or drained,
      following and whole(math.max(0, following - now)) or '', pieces }
  end
end
redis.call('ZADD', LEASES, whole(now + lease * 1000000), name)
local number, changed = news_since(known)
return { 'ok', number, changed, answers }
