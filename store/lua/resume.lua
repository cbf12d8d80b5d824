-- resume: take back that an operator has paused a job. It goes on as it would have: at its due time when that is still
-- to come, else at once.
-- KEYS[1] asynq:{q}:t:<key>    KEYS[2] asynq:{q}:pending    KEYS[3] asynq:{q}:scheduled    KEYS[4] asynq:{q}:retry
-- KEYS[5] perdure:{q}:parked   KEYS[6] perdure:{q}:events   KEYS[7] perdure:{q}:decided:<nonce> of this decision
-- ARGV[1] key   ARGV[2] actor   ARGV[3] reason
-- Returns 1 resumed; 2 it was not paused yet and will not be; -1 no such job; -3 no operator has paused it. Sent twice,
-- what it answered before.
local before = taken(KEYS[7])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'msg', 'state', 'p:hold', 'p:wait', 'p:back')
if not had[1] then return -1 end
if not had[3] then return -3 end
local _, now_ms, now_ns = clock()
local set, due = string.match(had[5] or '', '^(%a+) (%d+)$')
local state, waits = called(had[2], had[4]), set and tonumber(due) > now_ms
if had[2] ~= 'retry' or not string.find(had[4] or '', '^%d+ %d+ operator ') then
  decision(KEYS[6], 'resume', ARGV[1], ARGV[2], ARGV[3], state .. ', to be paused', state)
  redis.call('HDEL', KEYS[1], 'p:hold', 'p:back')
  return took(KEYS[7], 2)
end
decision(KEYS[6], 'resume', ARGV[1], ARGV[2], ARGV[3], 'paused by an operator', called(waits and set or 'pending'))
redis.call('HDEL', KEYS[1], 'p:hold', 'p:back')
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[1], 'p:wait', 'p:due')
redis.call('HSET', KEYS[1], 'msg', shown(had[1], ''))
if waits then
  redis.call('ZADD', set == 'scheduled' and KEYS[3] or KEYS[4], math.floor(tonumber(due) / 1000), ARGV[1])
  redis.call('HSET', KEYS[1], 'state', set)
  if set == 'retry' then redis.call('HSET', KEYS[1], 'p:due', due) end
else
  redis.call('HSET', KEYS[1], 'state', 'pending', 'pending_since', now_ns)
  redis.call('LPUSH', KEYS[2], ARGV[1])
end
return took(KEYS[7], 1)
