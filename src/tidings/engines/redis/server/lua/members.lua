-- The subscriptions that are attached, and what becomes of the messages of one that is gone.
-- Each is told by its name, to which `subscribers:<topic>` has what it is; a consumer's lease is in `leases`.

local LEASES = PREFIX .. ':leases'

local BURIED = 1000 -- messages that are looked at by one command

local function take_from(state, group, name, spared) -- what the consumer holds goes back; `spared`: not what it extended
  local kept = of_group('kept', state.name, group)
  for _, stream in ipairs(streams_of(state)) do
    local from = '-'
    redis.call('HINCRBY', STOLEN, name, 1)
    while true do
      local pending = redis.pcall('XPENDING', stream.key, group, from, '+', BURIED, name)
      if pending.err or #pending == 0 then break end
      for _, each in ipairs(pending) do
        local member = stream.suffix .. ' ' .. each[1]
        if not (spared and redis.call('ZSCORE', kept, member)) then
          redis.call('ZREM', kept, member)
          redis.call('XCLAIM', stream.key, group, NOBODY, 0, each[1], 'JUSTID')
          redis.call('ZADD', of_group('due', state.name, group), whole(time_of(each[1])), member)
        end
      end
      from = '(' .. pending[#pending][1]
    end
    if not spared then redis.pcall('XGROUP', 'DELCONSUMER', stream.key, group, name) end
  end
end

local function forget(topic, name) -- it is not attached to the topic any more
  redis.call('HDEL', key('subscribers', topic), name)
  for _, field in ipairs(redis.call('HKEYS', key('read', topic))) do
    if string.sub(field, 1, #name) == name then redis.call('HDEL', key('read', topic), field) end
  end
end

local function attached(topic) -- name -> what it is, of those that live; the others are put away
  local found, list = {}, redis.call('HGETALL', key('subscribers', topic))
  for place = 1, #list, 2 do
    local member = cjson.decode(list[place + 1])
    if is_alive(member.channel) then
      found[list[place]] = member
    else
      local state = state_of(topic)
      if state and member.group ~= '' then take_from(state, member.group, list[place], false) end
      forget(topic, list[place])
      redis.call('ZREM', LEASES, list[place])
    end
  end
  return found
end

local function relieve(state, group, own) -- take over from the consumers that are dead, or have stopped
  for name, member in pairs(attached(state.name)) do
    if member.group == group and name ~= own then
      local lease = redis.call('ZSCORE', LEASES, name)
      if not lease or tonumber(lease) <= now then take_from(state, group, name, true) end
    end
  end
end
