-- remember: a process knows that a dependency was not closed, and the board says nothing of it. When Redis has lost what
-- was known it recovers: it is not let through at once.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board    KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:votes:<name>
-- ARGV[1] name   ARGV[2] the turn that is known
-- Returns 1 it recovers; 0 nothing was lost.
if redis.call('HEXISTS', KEYS[1], 'state') == 1 then return 0 end
local _, now_ms = clock()
redis.call('HSET', KEYS[1], 'turn', ARGV[2])
recovers(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], now_ms, 1, 'perdure', 'what was known of it is lost')
return 1
