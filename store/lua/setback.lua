-- setback: let ticks fire again from now on where later ones have fired already: the clock was ahead then.
-- KEYS[1] perdure:{q}:fired
-- ARGV[1] now in ms, or '': Redis' time   ARGV[2] series: a schedule's ticks   ARGV[3] series: its triggers
-- Returns 1 set back; 2 none lies ahead.
local _, now_ms = clock()
if ARGV[1] ~= '' then now_ms = tonumber(ARGV[1]) end
local code = 2
for _, series in ipairs({ARGV[2], ARGV[3]}) do
  local reached = redis.call('ZSCORE', KEYS[1], series)
  if reached and tonumber(reached) > now_ms then
    redis.call('ZADD', KEYS[1], now_ms, series)
    code = 1
  end
end
return code
