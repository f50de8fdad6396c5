-- What reading has in common, in groups and outside of them.

local function parse_wanted() -- "*", or the numbers of partitions
  local text = take()
  if text == '*' then return nil end
  local wanted = {}
  for number in string.gmatch(text, '%d+') do wanted[tonumber(number)] = true end
  return wanted
end

local function wanted_streams(state, wanted)
  if wanted == nil then return streams_of(state) end
  local found = {}
  for _, stream in ipairs(streams_of(state)) do
    if wanted[stream.partition] then found[#found + 1] = stream end
  end
  return found
end

-- In which order the heads of several streams come: { time, level, ... } each.
local function by_time(one, other) return one[1] < other[1] end
local function by_priority(one, other)
  if one[2] ~= other[2] then return one[2] > other[2] end
  return one[1] < other[1]
end

local CHANGED = 1000 -- names of changed topics told at a time; the rest is told next time

local function news_since(known) -- the number of the catalog, and the names of the topics that changed since
  local number = redis.call('GET', PREFIX .. ':catalog') or '0'
  if number == known then return number, {} end
  if tonumber(number) < tonumber(known) then known = '0' end -- the server has lost its data
  local found = redis.call('ZRANGEBYSCORE', PREFIX .. ':names', '(' .. known, '+inf', 'WITHSCORES', 'LIMIT', 0, CHANGED)
  local names = {}
  for place = 1, #found, 2 do names[#names + 1] = found[place] end
  if #names == CHANGED then number = whole(tonumber(found[#found])) end
  return number, names
end

local function earliest(...)
  local least
  for place = 1, select('#', ...) do
    local value = select(place, ...)
    if value and (least == nil or value < least) then least = value end
  end
  return least
end
