-- Publish a batch to a topic of one partition that is stored, without bounds, now and at normal priority: what
-- publish.lua does, and nothing that most publishes do not need, so that one takes the server a few microseconds.
-- Arguments: the topic, its version, how many records; of each its data, id, content type, and how many other fields.

local topic, version = ARGV[1], ARGV[2]
local state = KEYS[1] .. ':topic:' .. topic
local found = redis.call('HMGET', state, 'version', 'time', 'next', 'bytes')
if found[1] ~= version then return { 'stale' } end

local clock = redis.call('TIME')
local now, time = clock[1] * 1000000 + clock[2], tonumber(found[2] or '0')
local first, bytes = tonumber(found[3] or '0'), tonumber(found[4] or '0')
local stream, at, following = KEYS[1] .. ':stream:' .. topic, 4, first
for _ = 1, tonumber(ARGV[3]) do
  time = math.max(now, time + 1)
  local micros = time % 1000
  local id = string.format('%.0f-%.0f', (time - micros) / 1000, following * 1000 + micros)
  local extra = tonumber(ARGV[at + 3])
  local added = redis.pcall('XADD', stream, id, 'data', ARGV[at], 'Tidings-Id', ARGV[at + 1], 'Content-Type',
    ARGV[at + 2], unpack(ARGV, at + 4, at + 3 + extra))
  if added.err then return { 'hard' } end -- only the first can fail: nothing is done, and publish.lua knows what to do
  following, bytes, at = following + 1, bytes + #ARGV[at], at + 4 + extra
end
redis.call('HSET', state, 'time', string.format('%.0f', time), 'next', string.format('%.0f', following),
  'bytes', string.format('%.0f', bytes))

local waiting = KEYS[1] .. ':waiting:' .. topic
local channels = redis.call('SMEMBERS', waiting)
if #channels > 0 then
  redis.call('DEL', waiting)
  for _, channel in ipairs(channels) do redis.call('PUBLISH', channel, topic) end
end
return { 'from', first }
