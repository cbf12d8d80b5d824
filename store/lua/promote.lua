-- promote: move jobs that are due from a waiting set to the queue.
-- KEYS[1] asynq:{q}:scheduled or asynq:{q}:retry   KEYS[2] asynq:{q}:pending   KEYS[3] perdure:{q}:parked
-- KEYS[4] asynq:{q}:t: (the prefix: which jobs are due is only known here)
-- KEYS[5] perdure:{q}:reports   KEYS[6] perdure:{q}:orphans   KEYS[7] perdure:{q}:lanes   KEYS[8] perdure:{q}:holds
-- ARGV[1] most jobs to move
-- Returns {moved, ms until the next one is due or -1 when the set is empty, 1 when there is something to relay, else 0,
-- 1 when jobs may wait for a dependency or a limit, or the queue may be paused for one, else 0}.
local now, now_ms, now_ns = clock()
local moved, next_ms = 0, -1
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local task = KEYS[4] .. key
  local due = redis.pcall('HMGET', task, 'msg', 'p:due') -- what is no hash is no job
  if not due[1] then
    redis.call('ZREM', KEYS[1], key)
    redis.call('ZREM', KEYS[3], key)
  elseif due[2] and tonumber(due[2]) > now_ms then
    -- The score has whole seconds only; this one is due later within the second.
    local wait = tonumber(due[2]) - now_ms
    if next_ms < 0 or wait < next_ms then next_ms = wait end
  else
    redis.call('ZREM', KEYS[1], key)
    redis.call('ZREM', KEYS[3], key)
    redis.call('HDEL', task, 'p:due', 'p:wait')
    redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ns)
    redis.call('LPUSH', KEYS[2], key)
    moved = moved + 1
  end
end
if next_ms < 0 then
  local first = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] then next_ms = tonumber(first[2]) * 1000 - now_ms end
end
if moved == tonumber(ARGV[1]) then next_ms = 0 end
return {moved, next_ms, redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 and 1 or 0,
  redis.call('EXISTS', KEYS[7], KEYS[8]) > 0 and 1 or 0}
