-- Carry out what consumers said, and publish what goes with it.
-- Arguments: the name of the consumer, its group, "1" for all or nothing, "2" when it may have been done before, else
-- "0"; then runs of deliveries that end alike: topic, suffix of the stream, attempt, what becomes of them ("give" and
-- "recount": they were settled when they were handed out), microseconds until then, the counter, how many, their ids in
-- order; and how many batches are published with them.
-- Returns "ok" and the numbers, from 1, of the deliveries that are not this consumer's; or why nothing was done. Of what
-- may have been done before, only acks of what somebody else has by now: the others were done, for all that can be told.

local name, group, how = take(), take(), take()
local whole_or_not = how == '1'

local careful = how ~= '0' or redis.call('HEXISTS', STOLEN, name) == 1

local LOOKED_UP = 1000 -- messages that are looked up by one command

local function owned(run) -- the ids that the consumer has at this attempt
  local mine, from = {}, run.ids[1]
  repeat
    local pending = redis.pcall('XPENDING', run.stream, group, from, run.ids[#run.ids], LOOKED_UP, name)
    if pending.err then break end -- the topic or the group is gone
    for _, each in ipairs(pending) do mine[each[1]] = each[4] == run.attempt end
    from = #pending > 0 and '(' .. pending[#pending][1]
  until #pending < LOOKED_UP
  return mine
end

local runs, lost, turn = {}, {}, 0

local function is_pending(run, id) -- with whomever
  local pending = redis.pcall('XPENDING', run.stream, group, id, id, 1)
  return not pending.err and #pending > 0
end

local function keep_owned(run)
  local mine, kept = owned(run), {}
  for place, id in ipairs(run.ids) do
    if mine[id] then
      kept[#kept + 1] = id
    elseif how ~= '2' or run.kind == 'ack' and is_pending(run, id) then
      lost[#lost + 1] = run.first + place
    end
  end
  run.ids = kept
end

-- First everything is read, and nothing done.

while at < #ARGV do
  local run = { topic = take(), suffix = take(), attempt = take_number(), kind = take(), wait = take_number(),
    counter = take(), ids = {}, batches = {}, first = turn }
  run.stream = stream_of(run.topic, run.suffix)
  for place = 1, take_number() do run.ids[place] = take() end
  turn = turn + #run.ids
  for place = 1, take_number() do run.batches[place] = parse_batch() end
  if careful and #run.ids > 0 and run.kind ~= 'give' and run.kind ~= 'recount' then keep_owned(run) end
  runs[#runs + 1] = run
end
if whole_or_not and #lost > 0 then return { 'lost', lost } end
for _, run in ipairs(runs) do
  for _, batch in ipairs(run.batches) do
    local fault = objection(batch)
    if fault and (whole_or_not or fault[1] == 'stale') then return fault end
  end
end

-- Then it is done.

local CHUNK = 1000 -- arguments of one command

local function acknowledge(run) -- return how many were not acknowledged before
  local number = 0
  for from = 1, #run.ids, CHUNK do
    number = number + redis.call('XACK', run.stream, group, unpack(run.ids, from, math.min(#run.ids, from + CHUNK - 1)))
  end
  return number
end

local function put_off(run, due) -- until it is its turn again; only a retry keeps the attempt; return how many
  local number = 0
  for _, id in ipairs(run.ids) do
    local claimed
    if run.kind == 'retry' then
      claimed = redis.call('XCLAIM', run.stream, group, NOBODY, 0, id, 'JUSTID')
    elseif run.kind == 'give' then
      claimed = redis.call('XCLAIM', run.stream, group, NOBODY, 0, id, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
    else
      claimed = redis.call('XCLAIM', run.stream, group, NOBODY, 0, id, 'RETRYCOUNT', run.attempt - 1, 'JUSTID')
    end
    if #claimed > 0 then
      local score = run.wait > 0 and now + run.wait or time_of(id)
      redis.call('ZADD', due, whole(score), run.suffix .. ' ' .. id)
      number = number + 1
    end
  end
  return number
end

local BUCKET = 10 -- seconds over which what is done is counted together
local BUCKETS_KEPT = 3600 -- seconds

local function count(run, number)
  if run.counter == '' or number == 0 then return end
  local counters = of_group('group', run.topic, group)
  redis.call('HINCRBY', counters, run.counter, number)
  local failed = run.counter == 'failed' or run.counter == 'dead'
  if run.counter == 'dead' then redis.call('HINCRBY', counters, 'failed', number) end
  if failed or run.counter == 'acked' then
    local bucket = key('rate', run.topic) .. '#' .. whole(math.floor(now / 1000000 / BUCKET))
    redis.call('HINCRBY', bucket, failed and 'failed' or 'acked', number)
    redis.call('EXPIRE', bucket, BUCKETS_KEPT)
  end
end

local function carry_out(run) -- return how many deliveries it concerned
  local due, kept = of_group('due', run.topic, group), of_group('kept', run.topic, group)
  if run.kind == 'extend' then
    for _, id in ipairs(run.ids) do redis.call('ZADD', kept, whole(now + run.wait), run.suffix .. ' ' .. id) end
    wake('waiting', run.topic)
    return #run.ids
  end
  if redis.call('EXISTS', kept) == 1 then
    for _, id in ipairs(run.ids) do redis.call('ZREM', kept, run.suffix .. ' ' .. id) end
  end
  local number = #run.ids
  if run.kind == 'ack' then
    number = acknowledge(run)
    wake('room', run.topic)
  elseif run.kind ~= 'recount' then
    number = put_off(run, due)
    wake('waiting', run.topic)
  end
  if run.kind == 'give' or run.kind == 'recount' then -- they were counted when they were handed out
    redis.call('HINCRBY', of_group('group', run.topic, group), 'acked', -number)
  end
  return number
end

for _, run in ipairs(runs) do
  local number = #run.ids > 0 and carry_out(run) or 0
  count(run, number)
  if number > 0 or run.topic == '' then
    for _, batch in ipairs(run.batches) do publish(batch) end
  end
end
return { 'ok', lost }
