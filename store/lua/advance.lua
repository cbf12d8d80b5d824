-- advance: take a replay plan one step further: see what became of entries that it has replayed, and replay those whose
-- turn it is. An entry leaves the plan and its quarantine in the same moment, so each is replayed once, whoever steps.
-- What came into quarantine since is looked at first, so that a plan stops soon however many are under way. A plan that
-- is paused or has stopped replays nothing.
-- KEYS[1] perdure:{q}:plan:<id>   KEYS[2] perdure:{q}:plan:<id>:left   KEYS[3] perdure:{q}:plan:<id>:out
-- KEYS[4] perdure:{q}:planning    KEYS[5] asynq:{q}:t: (the prefix: which jobs are next is only known here)
-- KEYS[6] asynq:{q}:pending       KEYS[7] asynq:{q}:archived            KEYS[8] perdure:{q}:dead
-- KEYS[9] perdure:{q}:groups      KEYS[10] perdure:{q}:events
-- ARGV[1] id   ARGV[2] most entries to replay, and of quarantine to look at   ARGV[3] most of those under way to look at
-- Returns {state, replayed, more}: more is 1 when there is more to do at once. The state is '' when there is no such plan.
local plan = redis.call('HMGET', KEYS[1], 'state', 'rate', 'from', 'stage', 'sent', 'next', 'on', 'by', 'looked', 'pardon', 'keep', 'seen', 'at', 'halt')
local state, stage = plan[1], plan[4]
if not state then redis.call('SREM', KEYS[4], ARGV[1]); return {'', 0, 0} end
if state ~= 'running' and state ~= 'paused' and state ~= 'stopped' then return {state, 0, 0} end
local _, now_ms = clock()
local most, most_out, mine = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[1] .. ' '
local stopped, more = plan[14], 0

-- became says what an entry has become: 'out' while that is open.
local function became(key)
  local had = redis.pcall('HMGET', KEYS[5] .. key, 'state', 'p:plan', 'p:sig', 'p:end')
  if not had[1] or not had[2] or string.sub(had[2], 1, #mine) ~= mine then return 'gone' end
  if had[1] == 'completed' then return had[4] or 'completed' end
  if had[1] ~= 'archived' then return 'out' end
  return had[3] == string.sub(had[2], #mine + 1) and 'returned' or 'failed'
end

-- ended counts an entry that was under way and is not any more: 1, or 0 when it is.
local function ended(key)
  local what = became(key)
  if what == 'out' then redis.call('ZADD', KEYS[3], 'XX', now_ms, key); return 0 end
  if redis.call('ZREM', KEYS[3], key) == 0 then return 0 end
  redis.call('HINCRBY', KEYS[1], what, 1)
  if plan[7] == '1' or state == 'stopped' then return 1 end
  local news = tonumber(redis.call('ZSCORE', KEYS[8], key) or 0) > tonumber(plan[10] or 0) -- since it was resumed
  if news and what == 'returned' then
    stopped = key .. ' is back in quarantine with the same failure'
  elseif news and what == 'failed' and stage ~= 'all' then
    stopped = stopped or key .. ', which went ahead, is back in quarantine with another failure'
  end
  return 1
end

local function stop(why)
  redis.call('HSET', KEYS[1], 'state', 'stopped', 'why', why)
  redis.call('HDEL', KEYS[1], 'halt')
  decision(KEYS[10], 'stop plan ' .. ARGV[1], '', 'perdure', why, 'running', 'stopped')
  return {'stopped', 0, 0}
end

-- Of this millisecond there may be more to come.
local back = redis.call('ZRANGEBYSCORE', KEYS[8], '(' .. (plan[12] or plan[13]), now_ms - 1, 'WITHSCORES', 'LIMIT', 0, most)
for i = 1, #back, 2 do ended(back[i]) end
if #back > 0 then redis.call('HSET', KEYS[1], 'seen', back[#back]) end
if #back == 2 * most then more = 1 end

if now_ms - tonumber(plan[9] or 0) >= (stage == 'all' and 500 or 100) then
  local keys, n = redis.call('ZRANGE', KEYS[3], 0, most_out - 1), 0
  for _, key in ipairs(keys) do n = n + ended(key) end
  -- Of many that are under way some are looked at each tenth of a second, and the next at once when most have ended.
  local wait = #keys < most_out and 500 or 100
  if wait == 100 and n > most_out / 2 then wait, more = 0, 1 end
  redis.call('HSET', KEYS[1], 'looked', now_ms - 500 + wait)
end
if state ~= 'running' then
  if stopped and state == 'paused' then redis.call('HSET', KEYS[1], 'halt', stopped) end -- it stops when it is resumed
  return {state, 0, more}
end
if stopped then return stop(stopped) end

local left, out, sent = redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]), tonumber(plan[5] or 0)
if left == 0 and out == 0 then
  redis.call('HSET', KEYS[1], 'state', 'done', 'ended', now_ms)
  redis.call('SREM', KEYS[4], ARGV[1])
  redis.call('EXPIRE', KEYS[1], plan[11] or 7776000)
  decision(KEYS[10], 'end plan ' .. ARGV[1], '', 'perdure', 'each of its entries was replayed, or skipped', 'running', 'done')
  return {'done', 0, 0}
end
-- What was not sent in time is made up for, of one second at most, and not at all where it was not to be sent.
local interval = 1000 / tonumber(plan[2])
local late = math.max(1000, interval)
if stage ~= 'all' and sent >= tonumber(stage) and out == 0 then
  stage, sent, late = stage == '1' and '10' or 'all', 0, 0
  redis.call('HSET', KEYS[1], 'stage', stage, 'sent', 0)
end

local next_ms = math.max(tonumber(plan[6] or now_ms), now_ms - late)
local room = stage == 'all' and most or math.min(most, tonumber(stage) - sent)
local entries, replayed, skipped = redis.call('ZRANGE', KEYS[2], 0, most - 1, 'WITHSCORES'), 0, 0
for i = 1, #entries, 2 do
  if next_ms > now_ms or replayed >= room then break end
  local key, at = entries[i], entries[i + 1]
  local task = KEYS[5] .. key
  local had = redis.pcall('HMGET', task, 'msg', 'state', 'p:erased', 'p:sig') -- what is no hash is no job
  redis.call('ZREM', KEYS[2], key)
  if not had[1] or had[2] ~= 'archived' or had[3] or tonumber(redis.call('ZSCORE', KEYS[8], key) or 0) ~= tonumber(at) then
    skipped = skipped + 1
  else
    decision(KEYS[10], 'replay', key, 'plan ' .. ARGV[1], plan[8], 'quarantined', 'pending')
    revived(task, key, fresh(had[1]), plan[3], KEYS[6], KEYS[7], KEYS[8], KEYS[9])
    redis.call('HSET', task, 'p:plan', mine .. (had[4] or ''))
    redis.call('ZADD', KEYS[3], now_ms, key)
    replayed = replayed + 1
    next_ms = next_ms + interval
  end
end
redis.call('HINCRBY', KEYS[1], 'replayed', replayed)
redis.call('HINCRBY', KEYS[1], 'skipped', skipped)
redis.call('HSET', KEYS[1], 'sent', sent + replayed, 'next', string.format('%.3f', next_ms))
return {'running', replayed, replayed + skipped == most and 1 or more}
