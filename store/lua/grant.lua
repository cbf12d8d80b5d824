-- grant: say how many of the jobs that wait for a dependency or a limit may be sent back now, and count them; or that one
-- may go and find out whether the service is back. Any number of processes may ask: the rate is that of all of them.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board    KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:votes:<name>   KEYS[6] perdure:{@dep}:leases:<name>
-- ARGV[1] name   ARGV[2] jobs that wait, -1: the asker does not know   ARGV[3] most to send back   ARGV[4] id of what is granted
-- ARGV[5] '1' when the asker can ask the service itself how it is
-- Returns {state, turn, jobs, probe, rate}: probe is '' none, 'job': the one job is the probe, 'health': the asker is to ask the
-- service. The probe's id is ARGV[4] and ':1', as that of the first job's place. rate is that of the ramp, as text.
-- Sent twice, or when its answer is lost, what was granted is used by nobody: the places are free again after two seconds.
-- At most a probe a second begins; after half a minute, one every two seconds. Jobs that wait on a dependency which
-- nothing is known of have outlived what was known (Redis has lost it): it recovers.
local _, now_ms = clock()
local waiting, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local had = redis.call('HMGET', KEYS[1], 'state', 'turn', 'forced', 'lasts', 'next', 'since', 'until', 'checker', 'from')
local state, turn, throttled = had[1] or 'closed', tonumber(had[2] or 0), tonumber(had[7] or 0)
local breaker = not string.find(ARGV[1], '/', 1, true)
if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'checker', now_ms); redis.call('ZADD', KEYS[3], now_ms, ARGV[1]) end
if waiting < 0 and state ~= 'open' then return {state, turn, 0, '', '0'} end
if waiting < 0 then waiting = 0 elseif waiting > 0 then redis.call('HSET', KEYS[1], 'line', waiting, 'lined', now_ms) else redis.call('HDEL', KEYS[1], 'line', 'lined') end
if waiting > 0 and breaker and not had[1] and setting(KEYS[1], 'rate', 0) == 0 and setting(KEYS[1], 'places', 0) == 0 then
  recovers(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], now_ms, 1, 'perdure', 'jobs wait for it, and what was known of it is lost')
  state, had[9] = 'recovering', now_ms
end

if state == 'open' then
  local rate = '0'
  -- How far ahead they can be bounds what becomes of them when the clock is set back.
  local lasts, next = tonumber(had[4] or 0) - now_ms, tonumber(had[5] or 0) - now_ms
  if had[3] == '1' or lasts > 0 and lasts <= 5000 or next > 0 and next <= 2000 then return {state, turn, 0, '', rate} end
  local checked = ARGV[5] == '1' or math.abs(now_ms - tonumber(had[8] or 0)) < 5000 -- some process can ask the service itself
  if checked and ARGV[5] ~= '1' or not checked and waiting == 0 then return {state, turn, 0, '', rate} end
  local every = now_ms - tonumber(had[6] or now_ms) < 30000 and 1000 or 2000
  redis.call('HSET', KEYS[1], 'probe', ARGV[4] .. ':1', 'lasts', now_ms + 5000, 'next', now_ms + every)
  redis.call('HINCRBY', KEYS[1], 'probes', 1)
  return {state, turn, 1, checked and 'health' or 'job', rate}
end

local resume, rate, places = setting(KEYS[1], 'resume', 100), setting(KEYS[1], 'rate', 0), setting(KEYS[1], 'places', 0)
local speed = rate
if state == 'recovering' then speed = ramp(KEYS[1], now_ms) elseif rate == 0 and places == 0 then speed = resume end
if state == 'recovering' and speed >= resume then
  -- At its full rate it has recovered once nobody waits, or when that has gone well for five seconds: who comes new
  -- need not wait for those who do.
  local full = tonumber(had[9] or now_ms) + 1000 * math.max(0, math.ceil(math.log(resume / tonumber(redis.call('HGET', KEYS[1], 'start') or 1)) / math.log(2)))
  if waiting == 0 or now_ms >= full + 5000 then
    redis.call('HSET', KEYS[1], 'state', 'closed', 'since', now_ms, 'reason', '', 'by', 'perdure')
    redis.call('HDEL', KEYS[1], 'from', 'start', 'until')
    local own = redis.call('HMGET', KEYS[1], 'resume', 'ratio', 'least', 'quorum', 'rate', 'places')
    -- A record with settings stays, or the limit would end with it.
    if not (own[1] or own[2] or own[3] or own[4] or own[5] or own[6] or rate > 0 or places > 0) then redis.call('EXPIRE', KEYS[1], 604800) end
    decision(KEYS[4], 'close', ARGV[1], 'perdure', 'it has recovered', 'recovering', 'closed')
    post(KEYS[1], KEYS[2], ARGV[1])
    state = 'closed'
  end
end
if throttled > now_ms then most = 0 end
if places > 0 then most = math.min(most, free(KEYS[6], now_ms, places)) end
local n, ramped = math.max(0, math.min(most, waiting)), state == 'recovering' or rate == 0 and places == 0
if rate > 0 then n = permitted(KEYS[1], 'rate:next', now_ms, rate, n) end
if ramped then n = permitted(KEYS[1], 'ramp:next', now_ms, speed, n) end
if n > 0 then -- what both permit
  if rate > 0 then permit(KEYS[1], 'rate:next', now_ms, rate, n) end
  if ramped then permit(KEYS[1], 'ramp:next', now_ms, speed, n) end
  if places > 0 then
    for i = 1, n do redis.call('ZADD', KEYS[6], now_ms + 2000, ARGV[4] .. ':' .. i) end
  end
  redis.call('HINCRBY', KEYS[1], 'resumed', n)
end
return {state, turn, n, '', tostring(speed)}
