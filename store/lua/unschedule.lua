-- unschedule: remove a schedule. Its jobs stay.
-- KEYS[1] perdure:{@cron}:s:<name>       KEYS[2] perdure:{@cron}:names   KEYS[3] perdure:{@cron}:changes
-- KEYS[4] perdure:{@cron}:events         KEYS[5] perdure:{@cron}:ticks:<name>
-- KEYS[6] perdure:{@cron}:declared       KEYS[7] perdure:{@cron}:decided:<nonce> of this decision
-- ARGV[1] name   ARGV[2] for how long a declaration holds, ms   ARGV[3] actor   ARGV[4] reason
-- Returns 1 removed; -1 no such schedule; -3 a process declares it, from code or file. Sent twice, what it answered before.
local before = taken(KEYS[7])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'origin', 'rev', 'timing')
local origin = had[1]
if not origin then return -1 end
local _, now_ms = clock()
local declared = tonumber(redis.call('ZSCORE', KEYS[6], ARGV[1]) or 0)
if origin ~= 'api' and declared + tonumber(ARGV[2]) > now_ms then return -3 end
redis.call('DEL', KEYS[1], KEYS[5])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('INCR', KEYS[3])
decision(KEYS[4], 'remove schedule', ARGV[1], ARGV[3], ARGV[4], string.format('revision %s, timing %s', had[2] or '', had[3] or ''), 'gone')
return took(KEYS[7], 1)
