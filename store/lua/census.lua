-- census: look at one job in all places at once, and put right what is wrong. What is right is not touched.
-- KEYS[1] asynq:{q}:t:<key>       KEYS[2] asynq:{q}:pending     KEYS[3] asynq:{q}:active      KEYS[4] asynq:{q}:scheduled
-- KEYS[5] asynq:{q}:retry         KEYS[6] asynq:{q}:archived    KEYS[7] asynq:{q}:completed   KEYS[8] asynq:{q}:lease
-- KEYS[9] perdure:{q}:parked      KEYS[10] perdure:{q}:dead     KEYS[11] perdure:{q}:suspects
-- KEYS[12] perdure:{q}:own:<owner> of the token that the caller has read, or KEYS[1] when it has read none
-- KEYS[13] perdure:{q}:events     KEYS[14] perdure:{q}:forgotten   KEYS[15] perdure:{q}:reports
-- KEYS[16] perdure:{q}:groups     KEYS[17] perdure:{q}:queued
-- KEYS[18] perdure:{q}:lane:<name> <kind> of what it waits for, as the caller has read it, or KEYS[1]   KEYS[19] perdure:{q}:lanes
-- ARGV[1] key   ARGV[2] the token that the caller has read, or ''   ARGV[3] entry of a job that others have archived
-- ARGV[4] lease in seconds   ARGV[5] signature of its entry   ARGV[6] what its group is about   ARGV[7] the kind's version, 0: not known
-- ARGV[8] the lane that the caller has read, '<name> <kind>', or ''
-- Returns the names of what was wrong, none when nothing was: 'gone' (entries without a job; it was deleted elsewhere, or
-- lost), 'rest' (a hash without a message), 'unowned' (running for nobody), 'lease', 'misplaced' (in no place, in several,
-- twice in one or in the wrong one), 'state', 'index' (one of perdure's), 'group', 'archived elsewhere'. {'again'}: the token has changed.
local key, wrong = ARGV[1], {}
local zsets = {scheduled = KEYS[4], retry = KEYS[5], archived = KEYS[6], completed = KEYS[7]}
local had = redis.call('HMGET', KEYS[1], 'msg', 'state', 'p:tok', 'p:due', 'p:wait', 'p:dead', 'p:exp', 'group', 'p:parent', 'p:sig')
if (had[3] or '') ~= ARGV[2] then return {'again'} end
local now, now_ms, now_ns = clock()

local places, n = {}, 0
local function found(place) places[place] = true; n = n + 1 end
local lists, more = {pending = KEYS[2], active = KEYS[3]}, {}
for place, list in pairs(lists) do
  local times = #redis.call('LPOS', list, key, 'COUNT', 0)
  if times > 0 then found(place) end
  more[place] = times - 1
end
for place, set in pairs(zsets) do
  if redis.call('ZSCORE', set, key) then found(place) end
end

-- only takes the job off every place but one.
local function only(place)
  if places.pending and place ~= 'pending' then redis.call('LREM', KEYS[2], 0, key) end
  if places.active and place ~= 'active' then redis.call('LREM', KEYS[3], 0, key); redis.call('ZREM', KEYS[8], key) end
  for other, set in pairs(zsets) do
    if other ~= place then redis.call('ZREM', set, key) end
  end
end

-- once leaves one entry in a list that has the job twice: of the queue, the one that is claimed first.
local function once(place)
  if (more[place] or 0) < 1 then return end
  redis.call('LREM', lists[place], more[place], key)
  wrong[#wrong + 1] = 'misplaced'
end

-- index takes the job off an index of perdure's that it has no business in, or puts it there.
local function index(name, belongs)
  local there = redis.call('ZSCORE', name, key)
  if there and not belongs then redis.call('ZREM', name, key) end
  if belongs and not there then redis.call('ZADD', name, now_ms, key) end
  if not there == belongs then wrong[#wrong + 1] = 'index' end
end

if not had[1] then
  local indexed = redis.call('ZREM', KEYS[9], key) + redis.call('ZREM', KEYS[10], key) + redis.call('ZREM', KEYS[11], key) +
    redis.call('ZREM', KEYS[17], key)
  if redis.call('ZREM', KEYS[8], key) == 1 then wrong[#wrong + 1] = 'lease' end
  only('')
  if ARGV[2] ~= '' then redis.call('HDEL', KEYS[12], key) end
  if redis.call('DEL', KEYS[1]) == 1 then wrong[#wrong + 1] = 'rest' end
  if n + indexed > 0 then
    wrong[#wrong + 1] = 'gone'
    redis.call('INCR', KEYS[14])
    decision(KEYS[13], 'deleted elsewhere', key, 'census', 'it was deleted outside perdure, or lost by a fail-over', 'there', 'gone')
  end
  return wrong
end
if had[2] == 'aggregating' or had[8] then return wrong end

local owned = had[3] and redis.call('HGET', KEYS[12], key) == had[3]
local leased = tonumber(redis.call('ZSCORE', KEYS[8], key) or 0)
local place, state = nil, had[2] or ''
if owned then
  place = 'active'
elseif places.active and n == 1 and state == 'active' and not had[3] and leased > now then
  once('active')
  return wrong -- asynq's own server runs it
elseif n == 1 and places[state] and state ~= 'active' then
  place = state
elseif state ~= 'pending' and had[7] then
  place = 'completed'
elseif state ~= 'pending' and had[6] or state == 'archived' then
  place = 'archived'
elseif state == 'completed' then
  place = 'completed'
elseif state == 'retry' or state ~= 'pending' and state ~= 'active' and (had[4] or had[5]) then
  place = 'retry'
elseif state == 'scheduled' and places.scheduled then
  place = 'scheduled'
else
  place = 'pending' -- also one that was scheduled, for a time that nobody knows any more
end

if had[3] and not owned or state == 'active' and place == 'pending' then
  wrong[#wrong + 1] = 'unowned'
  redis.call('HDEL', KEYS[1], 'p:tok', 'p:alone')
elseif n ~= 1 or not places[place] then
  wrong[#wrong + 1] = 'misplaced'
end
if not places[place] then
  if place == 'pending' and state == 'active' then redis.call('RPUSH', KEYS[2], key)
  elseif place == 'pending' then redis.call('LPUSH', KEYS[2], key)
  elseif place == 'active' then redis.call('LPUSH', KEYS[3], key)
  elseif place == 'retry' then redis.call('ZADD', KEYS[5], math.floor(tonumber(had[4] or now_ms) / 1000), key)
  elseif place == 'archived' then redis.call('ZADD', KEYS[6], now, key)
  elseif place == 'completed' then redis.call('ZADD', KEYS[7], tonumber(had[7] or now + 86400), key) end
end
only(place)
once(place)
if state ~= place then
  wrong[#wrong + 1] = 'state'
  redis.call('HSET', KEYS[1], 'state', place)
  if place == 'pending' then redis.call('HSET', KEYS[1], 'pending_since', now_ns) end
end
if place == 'active' and leased == 0 then
  wrong[#wrong + 1] = 'lease'
  redis.call('ZADD', KEYS[8], now + tonumber(ARGV[4]), key)
elseif place ~= 'active' and leased > 0 then
  wrong[#wrong + 1] = 'lease'
  redis.call('ZREM', KEYS[8], key)
end
-- What asynq's "run now" has sent back keeps its marks until it is claimed.
if place ~= 'pending' then
  if place == 'archived' and not had[6] then
    wrong[#wrong + 1] = 'archived elsewhere'
    redis.call('HSET', KEYS[1], 'p:dead', ARGV[3])
    report(KEYS[15], had[9])
    decision(KEYS[13], 'quarantine', key, 'asynq', 'archived with asynq\'s tools', 'not quarantined', 'quarantined')
  end
  local waits = place == 'retry' and had[5] and true or false
  index(KEYS[10], place == 'archived')
  local member = had[10] and redis.call('ZSCORE', KEYS[16] .. ':' .. had[10] .. ':keys', key)
  if place == 'archived' and not member then
    if had[6] then wrong[#wrong + 1] = 'group' end
    grouped(KEYS[1], key, KEYS[16], ARGV[5], ARGV[6], ARGV[7], now_ms, KEYS[13])
  elseif place ~= 'archived' and had[10] then
    wrong[#wrong + 1] = 'group'
    ungrouped(KEYS[1], key, KEYS[10], KEYS[16])
  end
  local turn = waits and turn_of(had[5]) and true or false
  index(KEYS[9], waits and not turn)
  index(KEYS[17], turn)
  local since, lane = string.match(waits and had[5] or '', '^%d+ (%d+) %a+ (.*)$')
  if ARGV[8] ~= '' and lane == ARGV[8] and redis.call('ZADD', KEYS[18], 'NX', since, key) == 1 then
    wrong[#wrong + 1] = 'index'
    redis.call('SADD', KEYS[19], ARGV[8])
  end
  index(KEYS[11], waits and string.match(had[5], '^%d+ %d+ isolation ') and true or false)
end
return wrong
