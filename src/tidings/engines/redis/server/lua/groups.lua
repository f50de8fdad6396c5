-- List the groups, drop one everywhere, or move its place on one topic.
-- Arguments: the verb, the group; to move it the topic, and where to.

local verb, group = take(), take()

if verb == 'list' then
  return { redis.call('GET', PREFIX .. ':groupings') or '0', redis.call('HVALS', PREFIX .. ':groups') }
end

local function clear(state)
  for _, stream in ipairs(streams_of(state)) do
    steal_all(stream.key, group)
    redis.pcall('XGROUP', 'DESTROY', stream.key, group)
  end
  redis.call('DEL', of_group('due', state.name, group), of_group('kept', state.name, group))
end

if verb == 'seek' then
  local topic = take()
  local state = state_of(topic)
  if not state or redis.call('SISMEMBER', key('on', topic), group) == 0 then return { 'missing' } end
  local start = parse_start()
  clear(state)
  for _, stream in ipairs(streams_of(state)) do place_group(state, stream, group, start) end
  wake('waiting', topic)
  wake('room', topic)
  return { 'ok' }
end

if redis.call('HDEL', PREFIX .. ':groups', group) == 0 then return { 'missing' } end
redis.call('INCR', PREFIX .. ':groupings')
for _, topic in ipairs(redis.call('HKEYS', PREFIX .. ':topics')) do
  if redis.call('SREM', key('on', topic), group) == 1 then
    clear(state_of(topic))
    redis.call('DEL', of_group('group', topic, group))
    wake('room', topic)
    wake('waiting', topic)
  end
end
return { 'ok' }
