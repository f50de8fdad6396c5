-- Read for a temporary subscription, from where it stands.
-- Arguments: its name, the channel of the client, the number of the catalog, how many, the partitions, "1" for priority
-- order; then for each topic its name, when it was made, how many streams are known, and the suffix and last id of each.
-- Returns the catalog's number, the topics changed since, and for each topic how it is and what came, in pieces.

local name, channel, known, room = take(), take(), take(), take_number()
local wanted, urgent = parse_wanted(), take() == '1'

local function read(state, cursors)
  local heads = {}
  local streams = wanted_streams(state, wanted)
  for _, stream in ipairs(streams) do
    local entries = redis.call('XRANGE', stream.key, '(' .. (cursors[stream.suffix] or '0-0'), '+', 'COUNT', room)
    if #streams == 1 then
      if #entries == 0 then return {}, 0 end
      return { { stream.suffix, 1, entries } }, #entries
    end
    for _, entry in ipairs(entries) do
      heads[#heads + 1] = { time_of(entry[1]), stream.level, stream.suffix, entry }
    end
  end
  table.sort(heads, urgent and by_priority or by_time)
  local pieces = {}
  for place = 1, math.min(room, #heads) do pieces[place] = { heads[place][3], 1, { heads[place][4] } } end
  return pieces, #pieces
end

local answers = {}
while at < #ARGV do
  local topic, born, cursors = take(), take(), {}
  for _ = 1, take_number() do
    local suffix = take()
    cursors[suffix] = take()
  end
  local state = state_of(topic)
  if not state then
    answers[#answers + 1] = { topic, 'gone' }
  elseif room > 0 then
    if state.born ~= born then cursors = {} end
    move_due(state)
    local pieces, count = {}, 0
    if state.mode ~= 'p' then pieces, count = read(state, cursors) end
    local drained = count < room and 1 or 0
    room = room - count
    if drained == 1 then redis.call('SADD', key('waiting', topic), channel) end
    local due = first_score(key('later', topic))
    for _, piece in ipairs(pieces) do
      local last = piece[3][#piece[3]][1]
      redis.call('HSET', key('read', topic), name .. piece[1], last)
    end
    answers[#answers + 1] = { topic, state.version, state.born, state.mode, drained, due and whole(math.max(0, due - now)) or '', pieces }
  end
end
local number, changed = news_since(known)
return { 'ok', number, changed, answers }
