-- shelve: end a queue's pause for a dependency. The jobs that came meanwhile take their place among those that wait, and
-- only when none is left the pause ends, in the same moment, so that they are not let through at once.
-- KEYS[1] asynq:{q}:pending   KEYS[2] asynq:{q}:paused   KEYS[3] perdure:{q}:holds   KEYS[4] asynq:{q}:retry
-- KEYS[5] perdure:{q}:parked  KEYS[6] perdure:{q}:lanes  KEYS[7] asynq:{q}:t: (the prefix: who waits is only known here)
-- KEYS[8] perdure:{q}:lane: (the prefix: of which kinds they are is only known here)   KEYS[9] perdure:{q}:events
-- KEYS[10] perdure:{q}:let
-- ARGV[1] name   ARGV[2] name of the queue's reason   ARGV[3] most jobs to move   ARGV[4] after how many ms they look for themselves
-- ARGV[5] what asynq's tools show
-- Returns {moved, over}: over is 1 when the pause for this has ended, or there was none.
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return {0, 1} end
local now, now_ms = clock()
local moved, most = 0, tonumber(ARGV[3])
local heads = redis.call('LRANGE', KEYS[1], -most, -1)
for i = #heads, 1, -1 do
  local key = heads[i]
  local task = KEYS[7] .. key
  local had = redis.pcall('HMGET', task, 'msg', 'p:tok', 'p:exp', 'p:dead', 'p:wait', 'p:hold', 'p:can', 'p:undo', 'pending_since', 'p:pass')
  if not had[1] or had[2] or had[3] or had[4] or had[5] or had[6] or had[7] or had[8] or had[10] then
    -- The claim script knows what becomes of it, or somebody has asked for something: it keeps its place.
    redis.call('RPOPLPUSH', KEYS[1], KEYS[1])
  else
    redis.call('RPOP', KEYS[1])
    local since = now_ms
    if had[9] then since = math.min(now_ms, math.floor(tonumber(had[9]) / 1000000)) end
    local kind = string.match(string.sub(had[1], 3, 2 + (string.byte(had[1], 2) or 0)), '^[a-z0-9][a-z0-9_.-]*$') or '-'
    local lane = ARGV[1] .. ' ' .. kind
    local due = now_ms + math.floor(tonumber(ARGV[4]) * (1 + (i % 100) / 100))
    redis.call('ZADD', KEYS[4], math.floor(due / 1000), key)
    redis.call('ZADD', KEYS[5], since, key)
    redis.call('ZADD', KEYS[8] .. lane, since, key)
    redis.call('SADD', KEYS[6], lane)
    redis.call('HDEL', task, 'pending_since')
    redis.call('HSET', task, 'msg', shown(had[1], ARGV[5]), 'state', 'retry', 'p:due', due,
      'p:wait', string.format('%d %.0f dependency %s', redis.call('HINCRBY', task, 'p:pn', 1), since, lane))
    moved = moved + 1
  end
end
if #heads == most and moved > 0 then return {moved, 0} end
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('DEL', KEYS[10])
local others = redis.call('HLEN', KEYS[3]) > 0
if not others then redis.call('DEL', KEYS[2]) end
decision(KEYS[9], 'resume queue', '', 'perdure', ARGV[1] .. ' is back, or recovers', 'paused', others and 'paused' or 'open')
return {moved, 1}
