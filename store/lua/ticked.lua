-- ticked: close an open tick that was carried out.
-- KEYS[1] perdure:{@cron}:s:<name>   KEYS[2] perdure:{@cron}:ticks:<name>
-- ARGV[1] nonce of this call   ARGV[2] what is open, as it was read   ARGV[3] 'fired', 'triggered' or 'skipped'
-- ARGV[4] instant, ms   ARGV[5] queue of the run, or ''   ARGV[6] key of it, 'plan <id>', or '': there is no run
-- ARGV[7] why it was skipped, or who has triggered it and why, or ''   ARGV[8] how late, ms
-- ARGV[9] how many ticks are kept on record
-- Returns 1 closed; -1 it is not open any more. Sent twice, the same again.
local had = redis.call('HMGET', KEYS[1], 'open', 'closed')
if had[2] == ARGV[1] then return 1 end
if had[1] ~= ARGV[2] then return -1 end
redis.call('HDEL', KEYS[1], 'open')
redis.call('HSET', KEYS[1], 'closed', ARGV[1])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'run', ARGV[5] .. ' ' .. ARGV[6]) end
redis.call('HINCRBY', KEYS[1], ARGV[3] == 'skipped' and 'skipped' or 'fired', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[9], '*', 'what', ARGV[3], 'at', ARGV[4], 'n', 1, 'queue', ARGV[5], 'key', ARGV[6],
  'reason', ARGV[7], 'late', ARGV[8])
return 1
