-- judge: say how people look at a group of quarantined jobs. One that is resolved opens again when it recurs.
-- KEYS[1] perdure:{q}:groups   KEYS[2] perdure:{q}:groups:<signature>   KEYS[3] perdure:{q}:events
-- KEYS[4] perdure:{q}:decided:<nonce> of this decision
-- ARGV[1] signature   ARGV[2] 'open', 'resolved' or 'ignored'   ARGV[3] what the event says   ARGV[4] actor   ARGV[5] reason
-- Returns 1 done; 2 it was so before; -1 no such group. Sent twice, what it answered before.
local before = taken(KEYS[4])
if before then return before end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return -1 end
local state = redis.call('HGET', KEYS[2], 'state') or 'open'
if state == ARGV[2] then return 2 end
decision(KEYS[3], ARGV[3], '', ARGV[4], ARGV[5], state, ARGV[2])
if ARGV[2] == 'open' then
  redis.call('HDEL', KEYS[2], 'state', 'by')
else
  redis.call('HSET', KEYS[2], 'state', ARGV[2], 'by', ARGV[4] .. ': ' .. ARGV[5])
end
return took(KEYS[4], 1)
