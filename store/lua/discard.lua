-- discard: forget a quarantined job for good. The decision stays on record.
-- KEYS[1] asynq:{q}:t:<key>   KEYS[2] asynq:{q}:archived   KEYS[3] perdure:{q}:dead   KEYS[4] perdure:{q}:events
-- KEYS[5] the task's unique lock, or KEYS[1] when it has none   KEYS[6] perdure:{q}:forgotten
-- KEYS[7] perdure:{q}:decided:<nonce> of this decision   KEYS[8] perdure:{q}:reports
-- KEYS[9] perdure:{q}:groups
-- ARGV[1] key   ARGV[2] actor   ARGV[3] reason   ARGV[4] what the event says   ARGV[5] when it must have been quarantined, ms,
-- and not again since; '' when that does not matter
-- Returns 1 forgotten; -1 no such job; -3 it is not quarantined, or was again. Sent twice, what it answered before:
-- also when the key is taken by a new job by then.
local before = taken(KEYS[7])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'msg', 'state', 'p:parent')
if not had[1] then return -1 end
if had[2] ~= 'archived' then return -3 end
if ARGV[5] ~= '' and redis.call('ZSCORE', KEYS[3], ARGV[1]) ~= ARGV[5] then return -3 end
report(KEYS[8], had[3])
decision(KEYS[4], ARGV[4], ARGV[1], ARGV[2], ARGV[3], 'quarantined', ARGV[4] == 'move out' and 'in a file' or 'gone')
redis.call('ZREM', KEYS[2], ARGV[1])
ungrouped(KEYS[1], ARGV[1], KEYS[3], KEYS[9])
if KEYS[5] ~= KEYS[1] and redis.call('GET', KEYS[5]) == ARGV[1] then redis.call('DEL', KEYS[5]) end
redis.call('DEL', KEYS[1])
redis.call('INCR', KEYS[6])
return took(KEYS[7], 1)
