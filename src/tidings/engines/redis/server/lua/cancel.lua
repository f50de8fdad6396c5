-- Take back a message that is to be delivered later. Arguments: its topic, its id and its number.

local topic, id, number = take(), take(), take()
local taken = redis.call('ZREM', key('later', topic), number)
if taken == 1 then
  redis.call('HDEL', key('letters', topic), number)
  redis.call('HDEL', key('places', topic), id)
  redis.call('ZREM', key('ids', topic), id)
end
return { 'ok', taken }
