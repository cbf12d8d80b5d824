-- isolate: take the suspect that waits longest, to run it in a process that runs nothing else.
-- KEYS[1] perdure:{q}:suspects       KEYS[2] asynq:{q}:paused         KEYS[3] asynq:{q}:active
-- KEYS[4] asynq:{q}:lease            KEYS[5] asynq:{q}:retry          KEYS[6] perdure:{q}:tokens
-- KEYS[7] perdure:{q}:own:<owner>    KEYS[8] perdure:{q}:parked       KEYS[9] asynq:{q}:t: (the prefix)
-- KEYS[10] perdure:{q}:holds
-- ARGV[1] owner   ARGV[2] the owner's sequence number of this call   ARGV[3] '1' when nothing else runs in the worker
-- ARGV[4] lease in seconds
-- Returns {now in ms, status, dropped, suspects, job}, as claim does: status 'ok' with a job, 'empty', 'paused',
-- 'fenced', or 'alone': those that are left have killed two workers from an isolated process too, so they may run only
-- where nothing else does. p:alone marks such a run: a crash of its worker is the job's own.
local now, now_ms = clock()
if redis.call('HEXISTS', KEYS[7], '!fenced') == 1 then return {now_ms, 'fenced', 0, 0} end
-- A queue that is paused for dependencies only goes on with these: what they need is asked before they run, and else one
-- that is sent to find out whether a dependency is back would wait here for ever.
if rests(KEYS[2], KEYS[10]) then return {now_ms, 'paused', 0, 0} end

local status, dropped = 'empty', 0
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'LIMIT', 0, 100)) do
  local task = KEYS[9] .. key
  local had = redis.pcall('HMGET', task, 'msg', 'p:tok', 'p:row', 'p:run', 'p:inc', 'p:wait', 'p:pass')
  if not had[1] or had[2] or not string.find(had[6] or '', '^%d+ %d+ isolation ') or not redis.call('ZSCORE', KEYS[5], key) then
    -- It has ended, or waits for something else by now, or somebody woke it: the claim script parks a suspect again.
    redis.call('ZREM', KEYS[1], key)
    dropped = dropped + 1
  elseif ARGV[3] ~= '1' and tonumber(had[3] or 0) >= 4 then
    status = 'alone'
  else
    local token = redis.call('INCR', KEYS[6]) .. '-' .. ARGV[1] .. '-' .. ARGV[2]
    redis.call('ZREM', KEYS[1], key)
    redis.call('ZREM', KEYS[8], key)
    redis.call('ZREM', KEYS[5], key)
    redis.call('LPUSH', KEYS[3], key)
    redis.call('ZADD', KEYS[4], now + tonumber(ARGV[4]), key)
    redis.call('HSET', KEYS[7], key, token)
    redis.call('HDEL', task, 'p:due', 'p:wait', 'pending_since', 'p:alone')
    redis.call('HSET', task, 'state', 'active', 'p:tok', token, 'p:cat', now_ms, 'p:run', tonumber(had[4] or 0) + 1,
      'p:inc', had[5] or token)
    if ARGV[3] == '1' then redis.call('HSET', task, 'p:alone', 1) end
    local job = redis.call('HGETALL', task)
    if had[7] then redis.call('HSET', task, 'p:pass', place(had[7])) end -- it is for this execution
    table.insert(job, 1, '')
    table.insert(job, 1, token)
    table.insert(job, 1, key)
    return {now_ms, 'ok', dropped, 0, job}
  end
end
return {now_ms, status, dropped, 0}
