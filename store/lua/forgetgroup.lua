-- forgetgroup: forget a group without entries that was not seen for long.
-- KEYS[1] perdure:{q}:groups   KEYS[2] perdure:{q}:groups:<signature>   KEYS[3] perdure:{q}:groups:<signature>:keys
-- ARGV[1] signature   ARGV[2] for how long it must not have been seen, ms
-- Returns 1 forgotten; 0 it has entries or was seen since, or there is none.
local _, now_ms = clock()
local last = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not last or tonumber(last) > now_ms - tonumber(ARGV[2]) or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
return 1
