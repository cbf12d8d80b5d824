-- admit: ask whether something may begin now that one or several dependencies or limits bound. It may when all of them
-- agree, and then it is counted for all of them; else for none.
-- KEYS[1], KEYS[2] perdure:{@dep}:d:<name>, perdure:{@dep}:leases:<name>   and so on for each name
-- ARGV[1] id of the places to be taken   ARGV[2] how long they last, ms   and then for each name the id of a valid pass; '-'
-- when it was sent back with a pass for another name, which may be none of these; '!' when that makes it a probe; else ''
-- Returns {0} it may begin; {which, why, ms}: that one refuses. why is 'open'; 'recovering', 'rate': not at this moment, in
-- ms maybe; 'throttled': the service wants none for ms; 'busy': no place is free; 'line': others wait already.
-- A probe is counted, and no rate refuses it: there is one a second at most, and those who wait would keep it from finding out.
-- A pass was counted for the ramp and the rate when it was issued, and a place is kept for it. When it is refused, that is given
-- back: what waits for two names would else use up the one while the other refuses, and so in turn. A record's field back is
-- the pass that was given back last, so that one is not given back twice. What is given back is issued again while the passes
-- of before are still on their way, so what really begins is counted too, and keeps to the ramp and the rate by itself.
-- Sent twice what begins has one place, and is counted twice: then as many fewer begin.
local _, now_ms = clock()
local asks = {}

-- full says whether one more would be too many now for a name that recovers or has a rate, by what was issued ('next') or what
-- has begun ('begun'): nil, or why and for how long.
local function full(record, recovering, rate, by)
  local n, wait = 1, 0
  if recovering then n, wait = permitted(record, 'ramp:' .. by, now_ms, ramp(record, now_ms), 1) end
  if n < 1 then return 'recovering', wait end
  if rate > 0 then n, wait = permitted(record, 'rate:' .. by, now_ms, rate, 1) end
  if n < 1 then return 'rate', wait end
end

-- counted counts one more.
local function counted(record, recovering, rate, by)
  if recovering then permit(record, 'ramp:' .. by, now_ms, ramp(record, now_ms), 1) end
  if rate > 0 then permit(record, 'rate:' .. by, now_ms, rate, 1) end
end

-- is_pass says whether what was shown is a pass for that name.
local function is_pass(pass)
  return pass ~= '' and pass ~= '-' and pass ~= '!'
end

-- refused returns which name refuses first, why, and for how long; nil: they all agree.
local function refused()
  for i = 1, #KEYS, 2 do
    local record, leases, pass = KEYS[i], KEYS[i + 1], ARGV[2 + (i + 1) / 2]
    local had = redis.call('HMGET', record, 'state', 'until', 'line', 'lined')
    local which, sent, passed = (i + 1) / 2, pass ~= '', is_pass(pass)
    if had[1] == 'open' then return {which, 'open', 0} end
    local throttled = tonumber(had[2] or 0)
    if throttled > now_ms then return {which, 'throttled', throttled - now_ms} end
    local rate, places = setting(record, 'rate', 0), setting(record, 'places', 0)
    local recovering = had[1] == 'recovering'
    -- Those who wait go first while somebody sends them; who was sent from another line need not stand in this one too.
    local lined = not sent and tonumber(had[3] or 0) > 0 and math.abs(now_ms - tonumber(had[4] or 0)) < 2000
    if lined and (recovering or rate > 0 or places > 0) then return {which, 'line', 0} end
    local why, wait
    if pass ~= '!' then why, wait = full(record, recovering, rate, 'begun') end
    if not why and not passed and pass ~= '!' then why, wait = full(record, recovering, rate, 'next') end
    if why then return {which, why, wait} end
    if places > 0 then
      local left = free(leases, now_ms, places) -- without those that have ended, of which the kept one may be
      local kept = passed and redis.call('ZSCORE', leases, pass) and 1 or 0
      if not redis.call('ZSCORE', leases, ARGV[1]) and left + kept < 1 then return {which, 'busy', 0} end
    end
    asks[#asks + 1] = {record, leases, passed and pass or '', recovering, rate, places}
  end
end

-- give takes back that a pass was counted.
local function give(record, leases, pass)
  if redis.call('HGET', record, 'back') == pass then return end
  local rate, speed = setting(record, 'rate', 0), ramp(record, now_ms)
  if rate > 0 then permit(record, 'rate:next', now_ms, rate, -1) end
  if redis.call('HGET', record, 'state') == 'recovering' and speed > 0 then permit(record, 'ramp:next', now_ms, speed, -1) end
  redis.call('ZREM', leases, pass)
  redis.call('HSET', record, 'back', pass)
end

local refusal = refused()
if refusal then
  for i = 1, #KEYS, 2 do
    local pass = ARGV[2 + (i + 1) / 2]
    if is_pass(pass) then give(KEYS[i], KEYS[i + 1], pass) end
  end
  return refusal
end
for _, ask in ipairs(asks) do
  local record, leases, pass, recovering, rate, places = ask[1], ask[2], ask[3], ask[4], ask[5], ask[6]
  if pass == '' then counted(record, recovering, rate, 'next') end
  counted(record, recovering, rate, 'begun')
  if pass ~= '' then redis.call('ZREM', leases, pass) end
  if places > 0 then redis.call('ZADD', leases, now_ms + tonumber(ARGV[2]), ARGV[1]) end
end
return {0}
