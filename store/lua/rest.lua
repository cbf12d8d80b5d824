-- rest: pause a schedule, or resume it. Its ticks are skipped meanwhile.
-- KEYS[1] perdure:{@cron}:s:<name>   KEYS[2] perdure:{@cron}:changes   KEYS[3] perdure:{@cron}:events
-- KEYS[4] perdure:{@cron}:decided:<nonce> of this decision
-- ARGV[1] 'pause' or 'resume'   ARGV[2] name   ARGV[3] the decision, as it is kept   ARGV[4] now in ms, or '': Redis' time
-- ARGV[5] actor   ARGV[6] reason
-- Returns 1 changed; 2 it was so before; -1 no such schedule. Sent twice, what it answered before.
local before = taken(KEYS[4])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'def', 'paused')
if not had[1] then return -1 end
if (ARGV[1] == 'pause') == (had[2] and true or false) then return 2 end
local _, now_ms = clock()
if ARGV[4] ~= '' then now_ms = tonumber(ARGV[4]) end
if ARGV[1] == 'pause' then
  redis.call('HSET', KEYS[1], 'paused', ARGV[3])
else
  redis.call('HDEL', KEYS[1], 'paused')
  redis.call('HSET', KEYS[1], 'resumed', string.format('%.0f', now_ms))
end
redis.call('INCR', KEYS[2])
if ARGV[1] == 'pause' then
  decision(KEYS[3], 'pause schedule', ARGV[2], ARGV[5], ARGV[6], 'active', 'paused')
else
  decision(KEYS[3], 'resume schedule', ARGV[2], ARGV[5], ARGV[6], 'paused', 'active')
end
return took(KEYS[4], 1)
