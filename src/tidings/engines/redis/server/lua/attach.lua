-- Make a group, or attach a subscription: from then on it sees everything.
-- Arguments: its name ("" to make the group only), the channel of the client, its group ("" for none), what it is, as
-- JSON, the seconds of a lease, "1" if it may be one too many; where it starts; the number of the catalog and of the
-- groups for which this holds ("" for any), the group as JSON ("" to leave it as it is); then the topics, and those of them that are the group's.
-- Returns the number of the catalog, and of each topic that exists how it is and where reading it begins.

local name, channel, group, about, lease, forced = take(), take(), take(), take(), take_number(), take() == '1'
local start, known, known_groups, entry = parse_start(), take(), take(), take()

local number = redis.call('GET', PREFIX .. ':catalog') or '0'
if known ~= '' and known ~= number then return { 'stale' } end
if known_groups ~= '' and known_groups ~= (redis.call('GET', PREFIX .. ':groupings') or '0') then return { 'stale' } end

local topics = {}
for place = 1, take_number() do
  local topic = take()
  local state = state_of(topic)
  if state then
    if name ~= '' and state.max_subscribers and not forced then
      local others = 0
      for _ in pairs(attached(topic)) do others = others + 1 end
      if others >= tonumber(state.max_subscribers) then return { 'many', topic, tonumber(state.max_subscribers) } end
    end
    topics[#topics + 1] = state
  end
end

if group ~= '' and entry == '' and redis.call('HEXISTS', PREFIX .. ':groups', group) == 0 then topics = {} end -- dropped
if group ~= '' then
  if entry ~= '' and redis.call('HGET', PREFIX .. ':groups', group) ~= entry then
    redis.call('HSET', PREFIX .. ':groups', group, entry)
    redis.call('INCR', PREFIX .. ':groupings')
  end
  for _, state in ipairs(topics) do
    if redis.call('SADD', key('on', state.name), group) == 1 then
      for _, stream in ipairs(streams_of(state)) do place_group(state, stream, group, start) end
    end
  end
  if name ~= '' then redis.call('ZADD', LEASES, whole(now + lease * 1000000), name) end
end

local answers = {}
for _, state in ipairs(topics) do
  local cursors = {}
  if name ~= '' then
    redis.call('HSET', key('subscribers', state.name), name, about)
    if group == '' then
      for _, stream in ipairs(streams_of(state)) do
        local id = locate(stream, start)
        cursors[#cursors + 1] = stream.suffix
        cursors[#cursors + 1] = id
        redis.call('HSET', key('read', state.name), name .. stream.suffix, id)
      end
    end
  end
  answers[#answers + 1] = { state.name, state.version, state.born, cursors }
end
return { 'ok', number, answers }
