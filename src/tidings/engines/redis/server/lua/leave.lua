-- Let go of a subscription: what it holds goes back, without counting an attempt.
-- Arguments: its name, its group ("" for none), "1" if it stays, how many messages it keeps then, and which: topic, suffix
-- and id of each in one; the topics.

local name, group, stays = take(), take(), take() == '1'
local kept = {}
for _ = 1, take_number() do kept[take()] = true end

if not stays then
  redis.call('ZREM', LEASES, name)
  redis.call('HDEL', STOLEN, name)
end
while at < #ARGV do
  local topic = take()
  local state = state_of(topic)
  if state and group ~= '' then
    for _, stream in ipairs(streams_of(state)) do
      local from = '-'
      repeat
        local pending = redis.pcall('XPENDING', stream.key, group, from, '+', BURIED, name)
        if pending.err then break end
        for _, each in ipairs(pending) do
          local member = stream.suffix .. ' ' .. each[1]
          if not kept[topic .. ' ' .. member] then
            redis.call('XCLAIM', stream.key, group, NOBODY, 0, each[1], 'RETRYCOUNT', each[4] - 1, 'JUSTID')
            redis.call('ZADD', of_group('due', topic, group), whole(time_of(each[1])), member)
            redis.call('ZREM', of_group('kept', topic, group), member)
          end
        end
        from = #pending > 0 and '(' .. pending[#pending][1]
      until #pending < BURIED
      if not stays then redis.pcall('XGROUP', 'DELCONSUMER', stream.key, group, name) end
    end
    wake('waiting', topic)
  end
  if not stays then forget(topic, name) end
end
return { 'ok' }
