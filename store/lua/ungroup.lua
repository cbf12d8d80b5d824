-- ungroup: take a job off a group that it is not of any more.
-- KEYS[1] asynq:{q}:t:<key>   KEYS[2] perdure:{q}:groups:<signature>:keys
-- ARGV[1] key   ARGV[2] signature
-- Returns 1 taken off; 0 it belongs there, or was not there.
-- A job that asynq's "run now" has sent back is of its group until it is claimed.
local had = redis.pcall('HMGET', KEYS[1], 'state', 'p:sig') -- what is no hash is no job
if had[2] == ARGV[2] and (had[1] == 'archived' or had[1] == 'pending') then return 0 end
return redis.call('ZREM', KEYS[2], ARGV[1])
