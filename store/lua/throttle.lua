-- throttle: a service has said that it wants no calls for a while. After that it recovers, from half of what it had.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board    KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:votes:<name>
-- ARGV[1] name   ARGV[2] for how long, ms   ARGV[3] what it has said   ARGV[4] how long a vote stands, ms
-- Returns 1 it is held; 2 it was, at least as long; 0 its breaker is open.
local _, now_ms = clock()
local had = redis.call('HMGET', KEYS[1], 'state', 'until')
if had[1] == 'open' then return 0 end
local till = now_ms + tonumber(ARGV[2])
if tonumber(had[2] or 0) >= till - 100 then return 2 end -- the same answer, given to several
local calls = 0
local all = redis.call('HGETALL', KEYS[5])
for i = 2, #all, 2 do
  local at, n = string.match(all[i], '^(%d+) (%d+) ')
  if at and tonumber(at) > now_ms - tonumber(ARGV[4]) then calls = calls + tonumber(n) end
end
local start = math.max(1, math.floor(calls / 4)) -- they are of two seconds
if had[1] == 'recovering' then -- one story: it is told once
  local speed = ramp(KEYS[1], now_ms)
  if speed > 0 then start = math.max(1, math.floor(speed / 2)) else start = redis.call('HGET', KEYS[1], 'start') or 1 end
  redis.call('HSET', KEYS[1], 'until', till, 'from', till, 'start', start, 'reason', ARGV[3])
  post(KEYS[1], KEYS[2], ARGV[1])
  return 1
end
redis.call('HSET', KEYS[1], 'until', till)
recovers(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], till, start, 'perdure', ARGV[3])
return 1
