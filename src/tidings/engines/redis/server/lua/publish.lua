-- Publish one batch to one topic, whole or not at all.
-- Arguments: the channel of the client, "1" if it waits for room, and the batch.

local channel, waits = take(), take()
local batch = parse_batch()
local fault = objection(batch)
if fault then
  if fault[1] == 'full' and waits == '1' then redis.call('SADD', key('room', batch.topic), channel) end
  return fault
end
local places = publish(batch)
local state = state_of(batch.topic)
if state.mode ~= 'e' and batch.due <= now and state.partitions == 1 then
  return { 'from', places[1][2] } -- the rest follows
end
return { 'each', places }
