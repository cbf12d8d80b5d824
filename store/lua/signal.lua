-- signal: hand a signal to a job. It is kept until the job waits for it, and wakes a job that does.
-- KEYS[1] asynq:{q}:t:<key>     KEYS[2] asynq:{q}:retry   KEYS[3] perdure:{q}:parked   KEYS[4] asynq:{q}:pending
-- KEYS[5] perdure:{q}:events
-- ARGV[1] key   ARGV[2] name   ARGV[3] the signal's id   ARGV[4] data   ARGV[5] actor   ARGV[6] reason
-- ARGV[7] most fields that a job may have
-- Returns 1 kept, or delivered to a job that it wakes; 2 the same signal was given before; -1 no such job; -3 the job has
-- ended; -4 another signal of the name was given; -5 too many fields.
local had = redis.call('HMGET', KEYS[1], 'msg', 'state', 'p:exp', 'i:' .. ARGV[2], 's:' .. ARGV[2], 'w:' .. ARGV[2], 'p:wait')
if not had[1] then return -1 end
if had[4] == ARGV[3] then return 2 end
if had[4] or had[5] then return -4 end
if had[2] == 'completed' or had[2] == 'archived' or had[3] then return -3 end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[7]) then return -5 end
redis.call('HSET', KEYS[1], 'i:' .. ARGV[2], ARGV[3], 'g:' .. ARGV[2], ARGV[4])
local state = called(had[2], had[7])
local woken = had[6] and wake(KEYS[1], ARGV[1], KEYS[2], KEYS[3], KEYS[4])
decision(KEYS[5], 'signal ' .. ARGV[2], ARGV[1], ARGV[5], ARGV[6], state, woken and 'pending' or state .. ', signalled')
return 1
