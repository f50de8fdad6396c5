-- Acknowledge deliveries of one stream: what settle.lua does for a consumer from which nothing was taken.
-- Arguments: the name of the consumer, its group, the topic, the suffix of the stream, and the ids.

local name, group, topic, suffix = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HEXISTS', KEYS[1] .. ':stolen', name) == 1 then return { 'careful' } end

local CHUNK = 1000 -- arguments of one command

local stream, number = KEYS[1] .. ':stream:' .. topic .. suffix, 0
for from = 5, #ARGV, CHUNK do
  number = number + redis.call('XACK', stream, group, unpack(ARGV, from, math.min(#ARGV, from + CHUNK - 1)))
end

local kept = KEYS[1] .. ':kept:' .. topic .. '#' .. group
if redis.call('EXISTS', kept) == 1 then
  for place = 5, #ARGV do redis.call('ZREM', kept, suffix .. ' ' .. ARGV[place]) end
end
redis.call('HINCRBY', KEYS[1] .. ':group:' .. topic .. '#' .. group, 'acked', number)
local bucket = KEYS[1] .. ':rate:' .. topic .. '#' .. string.format('%.0f', math.floor(redis.call('TIME')[1] / 10))
redis.call('HINCRBY', bucket, 'acked', number)
redis.call('EXPIRE', bucket, 3600)

local room = KEYS[1] .. ':room:' .. topic
local channels = redis.call('SMEMBERS', room)
if #channels > 0 then
  redis.call('DEL', room)
  for _, channel in ipairs(channels) do redis.call('PUBLISH', channel, topic) end
end
return { 'ok', {} }
