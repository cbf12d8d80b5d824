-- promote: move jobs that are due from a waiting set to the queue, and those that wait for a turn which nobody keeps any
-- more: their tenant's list is lost, or the queue is not known to be shared.
-- KEYS[1] asynq:{q}:scheduled or asynq:{q}:retry   KEYS[2] asynq:{q}:pending   KEYS[3] perdure:{q}:parked
-- KEYS[4] asynq:{q}:t: (the prefix: which jobs are due is only known here)
-- KEYS[5] perdure:{q}:reports   KEYS[6] perdure:{q}:orphans   KEYS[7] perdure:{q}:queued   KEYS[8] perdure:{q}:tenants
-- KEYS[9] perdure:{q}:turns     KEYS[10] perdure:{q}:tokens   KEYS[11] asynq:{q}:paused
-- KEYS[12] perdure:{q}:turn: (the prefix: whose jobs wait is only known here)   KEYS[13] perdure:{q}:lanes   KEYS[14] perdure:{q}:holds
-- ARGV[1] most jobs to move   ARGV[2] how long a shared queue may be that is not to be sorted, in jobs
-- ARGV[3] '1' when KEYS[1] is the set of retries: in it are those that wait for a turn
-- One that looks for itself whether what it waited for in a lane is back has a pass that lets nothing begin: by it the job
-- keeps its place in the line.
-- Returns {moved, ms until the next one is due, 0 when there is more to do at once, -1 when the set is empty, 1 when there is
-- something to relay, else 0, 1 when the queue is to be sorted by whose turn it is, else 0, 1 when jobs may wait for a
-- dependency or a limit, or the queue may be paused for one, else 0}.
local now, now_ms, now_ns = clock()
local moved, dropped, next_ms = 0, 0, -1

-- queue sends a job to the queue. One that waits its turn keeps saying so: it goes before the others of its tenant.
local function queue(key, task, wait, since)
  redis.call('ZREM', KEYS[1], key)
  redis.call('ZREM', KEYS[3], key)
  redis.call('ZREM', KEYS[7], key)
  redis.call('HDEL', task, 'p:due')
  if turn_of(wait) then
    redis.call('HSET', task, 'state', 'pending', 'pending_since', since or now_ns)
  else
    local at, sort, name = string.match(wait or '', '^%d+ (%d+) (%a+) (%S+) ')
    redis.call('HDEL', task, 'p:wait')
    redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ns)
    if sort == 'dependency' or sort == 'limit' then redis.call('HSET', task, 'p:pass', at .. ' 0 pass 0 - ' .. name) end
  end
  redis.call('LPUSH', KEYS[2], key)
  moved = moved + 1
end

for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local task = KEYS[4] .. key
  local due = redis.pcall('HMGET', task, 'msg', 'p:due', 'p:wait', 'pending_since') -- what is no hash is no job
  if not due[1] then
    redis.call('ZREM', KEYS[1], key)
    redis.call('ZREM', KEYS[3], key)
    redis.call('ZREM', KEYS[7], key)
  elseif due[2] and tonumber(due[2]) > now_ms then
    -- The score has whole seconds only; this one is due later within the second.
    local wait = tonumber(due[2]) - now_ms
    if next_ms < 0 or wait < next_ms then next_ms = wait end
  else
    queue(key, task, due[3], due[4])
  end
end
local shared = redis.call('SCARD', KEYS[8]) >= 2
-- Those that wait longest are looked at, up to one whose turn will come. An entry whose job has moved on goes, and
-- one whose job is gone to the end, or those behind it would not be looked at.
for _, key in ipairs(ARGV[3] == '1' and redis.call('ZRANGE', KEYS[7], 0, tonumber(ARGV[1]) - 1) or {}) do
  local task = KEYS[4] .. key
  local had = redis.pcall('HMGET', task, 'msg', 'state', 'p:wait', 'pending_since')
  local tenant = had[1] and had[2] == 'retry' and turn_of(had[3])
  if tenant and redis.call('ZSCORE', KEYS[1], key) then
    if shared and redis.call('EXISTS', KEYS[12] .. tenant) == 1 then
      if not redis.call('ZSCORE', KEYS[9], tenant) then
        redis.call('ZADD', KEYS[9], redis.call('ZRANGE', KEYS[9], 0, 0, 'WITHSCORES')[2] or 0, tenant)
      end
      break
    end
    queue(key, task, had[3], had[4])
  elseif had[1] then
    dropped = dropped + redis.call('ZREM', KEYS[7], key)
  else
    redis.call('ZADD', KEYS[7], now_ms, key) -- by this entry the census finds that the job was deleted
  end
end
if next_ms < 0 then
  local first = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] then next_ms = tonumber(first[2]) * 1000 - now_ms end
end
if moved + dropped >= tonumber(ARGV[1]) then next_ms = 0 end
local unsorted = false
if shared and redis.call('EXISTS', KEYS[11]) == 0 and redis.call('EXISTS', KEYS[10]) == 1 then
  local length = redis.call('LLEN', KEYS[2])
  unsorted = length > tonumber(ARGV[2]) or length == 0 and redis.call('EXISTS', KEYS[9]) == 1
end
return {moved, next_ms, redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 and 1 or 0, unsorted and 1 or 0,
  redis.call('EXISTS', KEYS[13], KEYS[14]) > 0 and 1 or 0}
