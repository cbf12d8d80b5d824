-- shelve: end a queue's pause for a dependency. The jobs that came meanwhile take their place among those that wait, and
-- only when none is left the pause ends, in the same moment, so that they are not let through at once.
-- KEYS[1] asynq:{q}:pending   KEYS[2] asynq:{q}:paused   KEYS[3] perdure:{q}:holds   KEYS[4] asynq:{q}:retry
-- KEYS[5] perdure:{q}:parked  KEYS[6] perdure:{q}:lanes  KEYS[7] asynq:{q}:t: (the prefix: who waits is only known here)
-- KEYS[8] perdure:{q}:lane: (the prefix: of which kinds they are is only known here)   KEYS[9] perdure:{q}:events
-- KEYS[10] perdure:{q}:probes
-- ARGV[1] name   ARGV[2] name of the queue's reason   ARGV[3] most jobs to move   ARGV[4] after how many ms they look for themselves
-- ARGV[5] what asynq's tools show
-- Returns {moved, over}: over is 1 when the pause for this has ended, or there was none.
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return {0, 1} end
local _, now_ms = clock()
local moved, stays, looked, most = 0, 0, 0, tonumber(ARGV[3])

-- shelved moves a job to where it waits; false: it keeps its place in the queue, because the claim script knows what becomes of
-- it, or somebody has asked for something, or it was sent back just now.
local function shelved(key)
  local task = KEYS[7] .. key
  local had = redis.pcall('HMGET', task, 'msg', 'p:tok', 'p:exp', 'p:dead', 'p:wait', 'p:hold', 'p:can', 'p:undo', 'pending_since', 'p:pass')
  local place, issued = string.match(had[10] or '', '^(%d+) (%d+) ')
  if not had[1] or had[2] or had[3] or had[4] or had[5] or had[6] or had[7] or had[8] or issued and now_ms - tonumber(issued) < 5000 then return false end
  local since = now_ms
  if had[9] then since = math.min(now_ms, math.floor(tonumber(had[9]) / 1000000)) end
  if place then since = math.min(since, tonumber(place)) end -- it has waited before
  local kind = string.match(string.sub(had[1], 3, 2 + (string.byte(had[1], 2) or 0)), '^[a-z0-9][a-z0-9_.-]*$') or '-'
  local lane = ARGV[1] .. ' ' .. kind
  local due = now_ms + math.floor(tonumber(ARGV[4]) * (1 + (looked % 100) / 100))
  redis.call('LREM', KEYS[1], -1, key)
  redis.call('ZADD', KEYS[4], math.floor(due / 1000), key)
  redis.call('ZADD', KEYS[5], since, key)
  redis.call('ZADD', KEYS[8] .. lane, since, key)
  redis.call('SADD', KEYS[6], lane)
  redis.call('HDEL', task, 'pending_since', 'p:pass')
  redis.call('HSET', task, 'msg', shown(had[1], ARGV[5]), 'state', 'retry', 'p:due', due,
    'p:wait', string.format('%d %.0f dependency %s', redis.call('HINCRBY', task, 'p:pn', 1), since, lane))
  return true
end

-- Those that stay are at the head of the queue, which is the right end: the next ones are left of them.
local left = true
while left and moved < most and looked < 2000 do
  local heads = redis.call('LRANGE', KEYS[1], -stays - math.min(100, most - moved), -stays - 1)
  left = #heads > 0
  for i = #heads, 1, -1 do
    looked = looked + 1
    if shelved(heads[i]) then moved = moved + 1 else stays = stays + 1 end
  end
end
if left and moved > 0 then return {moved, 0} end
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('HDEL', KEYS[10], ARGV[1])
local others = redis.call('HLEN', KEYS[3]) > 0 or foreign(redis.call('GET', KEYS[2]))
if not others then redis.call('DEL', KEYS[2]) end
decision(KEYS[9], 'resume queue', '', 'perdure', ARGV[1] .. ' is back, or recovers', 'paused', others and 'paused' or 'open')
return {moved, 1}
