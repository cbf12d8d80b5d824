-- expire: forget ended jobs whose retention is over.
-- KEYS[1] asynq:{q}:completed   KEYS[2] asynq:{q}:t: (the prefix: which jobs are over is only known here)
-- ARGV[1] most jobs to forget
-- Returns how many were forgotten.
local now = clock()
local keys = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, key in ipairs(keys) do
  redis.call('DEL', KEYS[2] .. key)
  redis.call('ZREM', KEYS[1], key)
end
return #keys
