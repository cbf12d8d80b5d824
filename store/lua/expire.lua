-- expire: forget ended jobs whose retention is over.
-- KEYS[1] asynq:{q}:completed   KEYS[2] asynq:{q}:t: (the prefix: which jobs are over is only known here)
-- KEYS[3] perdure:{q}:forgotten
-- ARGV[1] most jobs to forget
-- Returns how many entries left the set. An entry that was left behind by a job deleted elsewhere takes no later job
-- of the same key with it.
local now = clock()
local keys = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
local forgotten = 0
for _, key in ipairs(keys) do
  if redis.call('HGET', KEYS[2] .. key, 'state') == 'completed' then forgotten = forgotten + redis.call('DEL', KEYS[2] .. key) end
  redis.call('ZREM', KEYS[1], key)
end
if forgotten > 0 then redis.call('INCRBY', KEYS[3], forgotten) end
return #keys
