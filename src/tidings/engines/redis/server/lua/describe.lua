-- Tell how topics and their groups do.
-- Arguments: the seconds over which rates are wanted; then the topics, none for all.

local window = take_number()
local wanted = {}
while at < #ARGV do wanted[#wanted + 1] = take() end
if #wanted == 0 then wanted = redis.call('HKEYS', PREFIX .. ':topics') end

local function held_by(stream, group, counts) -- consumer -> how many messages it has
  local found = redis.pcall('XINFO', 'CONSUMERS', stream.key, group)
  if found.err then return end
  for _, flat in ipairs(found) do
    local fields = {}
    for place = 1, #flat, 2 do fields[flat[place]] = flat[place + 1] end
    counts[fields['name']] = (counts[fields['name']] or 0) + fields['pending']
  end
end

local function oldest_unsettled(stream, group, standing)
  local oldest
  if standing.pending > 0 then oldest = time_of(redis.call('XPENDING', stream.key, group)[2]) end
  if standing.unread > 0 then
    local entry = redis.call('XRANGE', stream.key, '(' .. standing.last, '+', 'COUNT', 1)[1]
    if entry then oldest = earliest(oldest, time_of(entry[1])) end
  end
  return oldest
end

local function describe_group(state, group)
  local lag, oldest, held = 0, nil, {}
  for _, stream in ipairs(streams_of(state)) do
    local standing = standings(state, stream)[group]
    if standing then
      lag = lag + standing.unread + standing.pending
      oldest = earliest(oldest, oldest_unsettled(stream, group, standing))
      held_by(stream, group, held)
    end
  end
  local consumers = {}
  for name, number in pairs(held) do
    if name ~= NOBODY then
      consumers[#consumers + 1] = name
      consumers[#consumers + 1] = number
    end
  end
  local retrying = redis.call('ZCOUNT', of_group('due', state.name, group), '(' .. whole(now), '+inf')
  return { group, lag, retrying, oldest and whole(oldest) or '', consumers,
    redis.call('HGETALL', of_group('group', state.name, group)) }
end

local function published_since(stream, moment) -- about as many messages as the stream got since then
  local next = tonumber(redis.call('HGET', key('topic', stream.topic), 'next' .. stream.suffix) or '0')
  local first = redis.call('XRANGE', stream.key, whole(math.floor(moment / 1000)), '+', 'COUNT', 1)[1]
  return first and next - math.floor(tonumber(string.match(first[1], '%-(%d+)$')) / 1000) or 0
end

local function rates(topic) -- acked and failed over the window
  local acked, failed = 0, 0
  local last = math.floor(now / 1000000 / 10)
  for bucket = last - math.min(360, math.ceil(window / 10)), last do
    local found = redis.call('HMGET', key('rate', topic) .. '#' .. whole(bucket), 'acked', 'failed')
    acked, failed = acked + (found[1] or 0), failed + (found[2] or 0)
  end
  return acked, failed
end

local answers = {}
for _, topic in ipairs(wanted) do
  local state = state_of(topic)
  if state then
    local streams, recent, members, groups = {}, 0, {}, {}
    for name, member in pairs(attached(topic)) do -- first: what the dead had is put back
      members[#members + 1] = name
      members[#members + 1] = redis.call('HGET', key('subscribers', topic), name)
    end
    for _, stream in ipairs(streams_of(state)) do
      local numbers = redis.call('HMGET', state.key, 'next' .. stream.suffix, 'cut' .. stream.suffix, 'bytes' .. stream.suffix)
      stream.topic = topic
      streams[#streams + 1] = { stream.suffix, tonumber(numbers[1] or '0'), tonumber(numbers[2] or '0'),
        redis.call('XLEN', stream.key), tonumber(numbers[3] or '0') }
      recent = recent + published_since(stream, now - window * 1000000)
    end
    for _, group in ipairs(groups_on(topic)) do groups[#groups + 1] = describe_group(state, group) end
    local acked, failed = rates(topic)
    answers[#answers + 1] = { topic, redis.call('HGET', PREFIX .. ':topics', topic), state.mode, streams, groups, members,
      redis.call('HGETALL', key('read', topic)), redis.call('ZCARD', key('later', topic)), recent, acked, failed }
  end
end
return { 'ok', whole(now), answers }
