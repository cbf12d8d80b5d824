-- ticked: say how far an open tick has come, and close it when it is over.
-- KEYS[1] perdure:{@cron}:s:<name>   KEYS[2] perdure:{@cron}:ticks:<name>
-- ARGV[1] nonce of this call   ARGV[2] what is open, as it was read   ARGV[3] jobs replayed in all   ARGV[4] 'more' or 'over'
-- ARGV[5] 'fired', 'triggered' or 'skipped'   ARGV[6] instant, ms   ARGV[7] queue of the run, or ''   ARGV[8] key of it, or ''
-- ARGV[9] why it was skipped, or who has triggered it and why   ARGV[10] how late, ms   ARGV[11] how many ticks are kept on record
-- Returns 1 closed; 2 noted, it stays open; -1 it is not open any more. Sent twice, the same again.
local had = redis.call('HMGET', KEYS[1], 'open', 'closed', 'moved')
if had[2] == ARGV[1] then return 1 end
if had[1] ~= ARGV[2] then return -1 end
if tonumber(had[3] or 0) < tonumber(ARGV[3]) then redis.call('HSET', KEYS[1], 'moved', ARGV[3]) end
if ARGV[4] == 'more' then return 2 end
redis.call('HDEL', KEYS[1], 'open', 'moved')
redis.call('HSET', KEYS[1], 'closed', ARGV[1])
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'run', ARGV[7] .. ' ' .. ARGV[8]) end
redis.call('HINCRBY', KEYS[1], ARGV[5] == 'skipped' and 'skipped' or 'fired', 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[11], '*', 'what', ARGV[5], 'at', ARGV[6], 'n', 1, 'queue', ARGV[7], 'key', ARGV[8],
  'moved', ARGV[3], 'reason', ARGV[9], 'late', ARGV[10])
return 1
