-- probed: say what a probe of a dependency has found. Only the one that is under way is heard.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board    KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:votes:<name>
-- ARGV[1] name   ARGV[2] id of the probe   ARGV[3] 'well', 'failed', 'nothing' or 'under way'   ARGV[4] reason of a failure
-- Returns 1 noted; 0 another probe is under way by now, or none.
local _, now_ms = clock()
local had = redis.call('HMGET', KEYS[1], 'state', 'probe')
if had[1] ~= 'open' or had[2] ~= ARGV[2] then return 0 end
if ARGV[3] == 'under way' then
  redis.call('HSET', KEYS[1], 'lasts', now_ms + 5000)
elseif ARGV[3] == 'well' then
  recovers(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], now_ms, 1, 'perdure', 'a probe found it well')
else
  redis.call('HDEL', KEYS[1], 'probe', 'lasts')
  if ARGV[3] == 'failed' then redis.call('HSET', KEYS[1], 'found', ARGV[4]) end
end
return 1
