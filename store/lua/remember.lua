-- remember: a process knows that a dependency was not closed, and the board says nothing of it. When Redis has lost what
-- was known it recovers: it is not let through at once.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board    KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:votes:<name>
-- ARGV[1] name   ARGV[2] the turn that is known
-- Returns 1 it recovers; 0 nothing was lost.
-- A record of an earlier turn is what a fail-over has left: the opening after it was lost. One that is not closed and not on
-- the board is put there again.
local had = redis.call('HMGET', KEYS[1], 'state', 'turn')
if had[1] and tonumber(had[2] or 0) >= tonumber(ARGV[2]) then
  if had[1] ~= 'closed' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then post(KEYS[1], KEYS[2], ARGV[1]) end
  return 0
end
local _, now_ms = clock()
redis.call('HSET', KEYS[1], 'turn', ARGV[2])
recovers(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], now_ms, 1, 'perdure', 'what was known of it is lost')
return 1
