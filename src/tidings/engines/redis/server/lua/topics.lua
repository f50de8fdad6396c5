-- Make, alter, drop or show topics.
-- Arguments: the verb; none to get the names of all, the names of those to show; else the topic; to make or alter it: the topic as JSON, its version or the number of the groups for
-- which this holds, how many fields, their names and values ("" for none), and the groups that collect from it.

local verb = take()

if verb == 'names' then
  return { redis.call('GET', PREFIX .. ':catalog') or '0', redis.call('ZRANGE', PREFIX .. ':names', 0, -1) }
end
if verb == 'show' then
  local found = {}
  while at < #ARGV do
    local name = take()
    local shown = state_of(name)
    found[#found + 1] = shown and { redis.call('HGET', PREFIX .. ':topics', name), shown.version } or { false, false }
  end
  return { 'ok', found }
end

local topic = take()
local state = state_of(topic)

local function fields_from_arguments(entry)
  local present, absent = { 'version', redis.call('INCR', PREFIX .. ':catalog') }, { '' }
  for _ = 1, take_number() do
    local field, value = take(), take()
    if value == '' then
      absent[#absent + 1] = field
    else
      present[#present + 1] = field
      present[#present + 1] = value
    end
  end
  redis.call('HDEL', key('topic', topic), unpack(absent))
  redis.call('HSET', key('topic', topic), unpack(present))
  redis.call('HSET', PREFIX .. ':topics', topic, entry)
  redis.call('ZADD', PREFIX .. ':names', present[2], topic)
  tell_news()
  return tostring(present[2])
end

local function drop()
  for _, stream in ipairs(streams_of(state)) do
    for _, group in ipairs(groups_on(topic)) do steal_all(stream.key, group) end
    redis.call('DEL', stream.key)
  end
  for _, group in ipairs(groups_on(topic)) do
    redis.call('DEL', of_group('group', topic, group), of_group('due', topic, group), of_group('kept', topic, group))
  end
  for _, kind in ipairs({ 'topic', 'on', 'read', 'later', 'letters', 'ids', 'places' }) do redis.call('DEL', key(kind, topic)) end
  redis.call('HDEL', PREFIX .. ':topics', topic)
  redis.call('ZREM', PREFIX .. ':names', topic)
  redis.call('INCR', PREFIX .. ':catalog')
  wake('waiting', topic)
  wake('room', topic)
  tell_news()
  return { 'ok' }
end

if verb == 'drop' then
  if not state then return { 'missing' } end
  return drop()
end

local entry, known = take(), take()
if verb == 'alter' then
  if not state then return { 'missing' } end
  if state.version ~= known then return { 'stale' } end
  local version = fields_from_arguments(entry)
  wake('room', topic)
  wake('waiting', topic)
  return { 'ok', version }
end

if state then return { 'exists', redis.call('HGET', PREFIX .. ':topics', topic), state.version } end
if known ~= (redis.call('GET', PREFIX .. ':groupings') or '0') then return { 'stale' } end
local version = fields_from_arguments(entry)
redis.call('HSET', key('topic', topic), 'born', version, 'levels', '5')
states[topic] = nil
state = state_of(topic)
while at < #ARGV do
  local group = take()
  redis.call('SADD', key('on', topic), group)
  for _, stream in ipairs(streams_of(state)) do redis.call('XGROUP', 'CREATE', stream.key, group, '0', 'MKSTREAM') end
end
return { 'ok', version }
