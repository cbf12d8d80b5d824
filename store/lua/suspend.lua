-- suspend: pause a job until it is resumed, at once when it is not running, else at its next step.
-- KEYS[1] asynq:{q}:t:<key>    KEYS[2] asynq:{q}:pending    KEYS[3] asynq:{q}:scheduled    KEYS[4] asynq:{q}:retry
-- KEYS[5] perdure:{q}:parked   KEYS[6] perdure:{q}:events   KEYS[7] perdure:{q}:suspects
-- KEYS[8] perdure:{q}:decided:<nonce> of this decision   KEYS[9] perdure:{q}:queued
-- ARGV[1] key   ARGV[2] actor   ARGV[3] reason
-- Returns 1 paused; 2 asked (it is running); 3 was paused or asked to before; -1 no such job; -3 it has ended, or is
-- about to, or is quarantined and about to be replayed. Sent twice, what it answered before.
-- p:back is where it goes when it is resumed before it would have been due: '<scheduled|retry> <due ms>'.
local before = taken(KEYS[8])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'msg', 'state', 'p:hold', 'p:exp', 'p:can', 'p:due', 'p:wait', 'p:dead')
if not had[1] then return -1 end
if had[3] then return 3 end
if had[2] == 'completed' or had[2] == 'archived' or had[4] or had[5] or had[8] then return -3 end
local _, now_ms = clock()
local hold = ARGV[2] .. ': ' .. ARGV[3]
local state = called(had[2], had[7])
decision(KEYS[6], 'pause', ARGV[1], ARGV[2], ARGV[3], state, had[2] == 'active' and state .. ', to be paused' or 'paused by an operator')
if had[2] == 'active' then
  redis.call('HSET', KEYS[1], 'p:hold', hold)
  return took(KEYS[8], 2)
end
local back = ''
if had[2] == 'scheduled' then
  back = string.format('scheduled %.0f', tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or 0) * 1000)
elseif had[2] == 'retry' and not had[7] then
  back = 'retry ' .. (had[6] or '0')
end
redis.call('LREM', KEYS[2], 1, ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[7], ARGV[1])
redis.call('ZREM', KEYS[9], ARGV[1])
keep(KEYS[1], ARGV[1], had[1], hold, back, KEYS[4], KEYS[5], now_ms)
return took(KEYS[8], 1)
