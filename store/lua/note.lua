-- note: record a decision that changes nothing by itself, once.
-- KEYS[1] stream of events   KEYS[2] perdure:{@cron}:decided:<nonce> of this decision
-- ARGV[1] what   ARGV[2] about what   ARGV[3] actor   ARGV[4] reason
-- Returns 1 recorded. Sent twice, what it answered before.
local before = taken(KEYS[2])
if before then return before end
decision(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return took(KEYS[2], 1)
