-- probed: say what a probe of a dependency has found. That it is well is heard of every probe of this turn, the rest only of
-- the one that counts as under way: one that hangs does so for five seconds only.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board    KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:votes:<name>
-- ARGV[1] name   ARGV[2] '<turn that the probe was made in> <its id>'   ARGV[3] 'well', 'failed' or 'nothing'
-- ARGV[4] reason of a failure
-- Returns 1 noted; 0 another probe is under way by now, or none.
local _, now_ms = clock()
local turn, id = string.match(ARGV[2], '^(%d+) (.*)$')
local had = redis.call('HMGET', KEYS[1], 'state', 'probe', 'turn')
if had[1] ~= 'open' or had[3] ~= turn or had[2] ~= id and ARGV[3] ~= 'well' then return 0 end
if ARGV[3] == 'well' then
  recovers(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], now_ms, 1, 'perdure', 'a probe found it well')
else
  redis.call('HDEL', KEYS[1], 'probe', 'lasts')
  if ARGV[3] == 'failed' then redis.call('HSET', KEYS[1], 'found', ARGV[4]) end
end
return 1
