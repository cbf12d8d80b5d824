-- trigger: open a tick of a schedule now, whatever its timetable says.
-- KEYS[1] perdure:{@cron}:s:<name>   KEYS[2] perdure:{@cron}:events   KEYS[3] perdure:{@cron}:changes
-- KEYS[4] perdure:{@cron}:decided:<nonce> of this decision
-- ARGV[1] name   ARGV[2] what is open then   ARGV[3] its instant, ms   ARGV[4] actor   ARGV[5] reason
-- Returns 1 open; -1 no such schedule; -4 a tick is open; -5 it was triggered at this instant or later. Sent twice, what
-- it answered before.
local before = taken(KEYS[4])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'def', 'open', 'triggered')
if not had[1] then return -1 end
if had[2] then return -4 end
if had[3] and tonumber(had[3]) >= tonumber(ARGV[3]) then return -5 end
redis.call('HSET', KEYS[1], 'open', ARGV[2], 'triggered', ARGV[3])
redis.call('INCR', KEYS[3])
decision(KEYS[2], 'trigger schedule', ARGV[1], ARGV[4], ARGV[5], 'no tick open', 'a tick open')
return took(KEYS[4], 1)
