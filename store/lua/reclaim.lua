-- reclaim: put a dead owner's jobs back at the head of their queue and fence the owner. No attempt is used.
-- KEYS[1] perdure:{q}:own:<owner>   KEYS[2] asynq:{q}:active   KEYS[3] asynq:{q}:lease   KEYS[4] asynq:{q}:pending
-- KEYS[5] asynq:{q}:t: (the prefix: what the owner holds is only known here)
-- ARGV[1] most jobs to move   ARGV[2] failure   ARGV[3] how many failures are kept   ARGV[4] seconds the fence stands
-- p:blame is '<1 when the job ran alone, else 0> <token>', so that an owner that turns out to live can take the crash back.
-- Returns {moved, left}: how many went back to the queue, and how many entries of the owner's list are not looked at yet.
-- The token is not kept as that of a verdict: a verdict of the dead owner that arrives late is stale, not sent twice.
local looked, moved, left = 0, 0, 0
local held = redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do
  local key, token = held[i], held[i + 1]
  if key == '!fenced' then
    -- not a job
  elseif looked == tonumber(ARGV[1]) then
    left = left + 1
  else
    local task = KEYS[5] .. key
    local owns = ownership(task, token)
    if owns == 1 then
      redis.call('LREM', KEYS[2], 1, key)
      redis.call('ZREM', KEYS[3], key)
      redis.call('RPUSH', KEYS[4], key)
      redis.call('HINCRBY', task, 'p:cra', 1)
      redis.call('HINCRBY', task, 'p:row', 1)
      local alone = redis.call('HDEL', task, 'p:alone')
      if alone == 1 then redis.call('HINCRBY', task, 'p:icr', 1) end
      redis.call('HDEL', task, 'p:tok')
      redis.call('HSET', task, 'state', 'pending', 'p:blame', alone .. ' ' .. token)
      keep_failure(task, ARGV[2], ARGV[3])
      moved = moved + 1
    elseif owns == -1 then
      -- The job was deleted while it ran; nothing of it may stay behind.
      redis.call('LREM', KEYS[2], 1, key)
      redis.call('ZREM', KEYS[3], key)
    end
    redis.call('HDEL', KEYS[1], key)
    looked = looked + 1
  end
end
redis.call('HSET', KEYS[1], '!fenced', 1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {moved, left}
