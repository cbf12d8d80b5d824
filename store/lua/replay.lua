-- replay: return a quarantined job to its queue, from the failed step or from the start. Key and incarnation stay.
-- KEYS[1] asynq:{q}:t:<key>    KEYS[2] asynq:{q}:pending   KEYS[3] asynq:{q}:archived   KEYS[4] perdure:{q}:dead
-- KEYS[5] perdure:{q}:events   KEYS[6] perdure:{q}:decided:<nonce> of this decision
-- KEYS[7] perdure:{q}:groups
-- ARGV[1] key   ARGV[2] the message as it was read   ARGV[3] the message to store   ARGV[4] 'failed' or 'start'
-- ARGV[5] actor   ARGV[6] reason   ARGV[7] how its payload was edited, '' when it was not
-- Returns 1 back in the queue; 0 the message has changed: read again; -1 no such job; -3 it is not quarantined;
-- -4 its payload was erased, so it needs another one, and the start. Sent
-- twice, what it answered before: also when the job runs again by then, or is quarantined again.
local before = taken(KEYS[6])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'msg', 'state', 'p:erased')
if not had[1] then return -1 end
if had[2] ~= 'archived' then return -3 end
if had[3] and (ARGV[7] == '' or ARGV[4] ~= 'start') then return -4 end
if had[1] ~= ARGV[2] then return 0 end
decision(KEYS[5], 'replay', ARGV[1], ARGV[5], ARGV[6], had[3] and 'quarantined, erased' or 'quarantined', 'pending')
if ARGV[7] ~= '' then
  redis.call('HSET', KEYS[1], 'e:' .. redis.call('HINCRBY', KEYS[1], 'p:en', 1), ARGV[7])
  redis.call('HDEL', KEYS[1], 'p:erased')
end
revived(KEYS[1], ARGV[1], ARGV[3], ARGV[4], KEYS[2], KEYS[3], KEYS[4], KEYS[7])
return took(KEYS[6], 1)
