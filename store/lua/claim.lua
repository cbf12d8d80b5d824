-- claim: take up to n jobs from a queue for an owner; message and record come back in the same round trip.
-- KEYS[1] asynq:{q}:pending          KEYS[2] asynq:{q}:paused         KEYS[3] asynq:{q}:active
-- KEYS[4] asynq:{q}:lease            KEYS[5] asynq:{q}:completed      KEYS[6] perdure:{q}:tokens
-- KEYS[7] perdure:{q}:own:<owner>    KEYS[8] perdure:{q}:parked       KEYS[9] perdure:{q}:dead
-- KEYS[10] perdure:{q}:events        KEYS[11] asynq:{q}:t: (the prefix: which jobs are met is only known here)
-- KEYS[12] asynq:{q}:retry           KEYS[13] perdure:{q}:suspects     KEYS[14] perdure:{q}:groups
-- KEYS[15] asynq:{q}:archived        KEYS[16] perdure:{q}:holds        KEYS[17] perdure:{q}:let
-- ARGV[1] owner   ARGV[2] the owner's sequence number of this call   ARGV[3] most jobs to take   ARGV[4] lease in seconds
-- Returns {now in ms, status, dropped, suspects, job, job, …}: status 'ok', 'empty' (took fewer than asked), 'paused' or
-- 'fenced' (the owner was declared dead; nothing was taken). dropped counts entries that stood for no claimable
-- job; suspects counts jobs that were parked to be run by `isolate`: two workers have died while they ran and no step was
-- recorded between, or a process that ran nothing else has. A job is {key, token, pending since (ns) or '', field, value, …}: its hash as it now is.
-- A queue that is paused for nothing but dependencies lets one job through when there is a pass for it at KEYS[17]: it finds out
-- whether one of them is back.
-- A reply that is lost leaves jobs owned and unknown: the owner finds them by `holdings` and hands them back.
local now, now_ms = clock()

-- replayed notes that asynq's "run now" has sent a quarantined job back.
local function replayed(task, key)
  ungrouped(task, key, KEYS[9], KEYS[14])
  redis.call('HDEL', task, 'p:dead', 'p:att', 'p:icr', 'p:plan')
  renewed(task)
  decision(KEYS[10], 'replay', key, 'asynq', 'run now was asked for a quarantined job', 'quarantined', 'pending')
end

if redis.call('HEXISTS', KEYS[7], '!fenced') == 1 then return {now_ms, 'fenced', 0, 0} end
-- let_through returns the pass for one job of a paused queue, or nothing.
local function let_through()
  local pass = redis.call('GET', KEYS[17])
  if not pass then return nil end
  local holds = redis.call('HKEYS', KEYS[16])
  for _, hold in ipairs(holds) do
    if string.sub(hold, 1, 11) ~= 'dependency:' then return nil end
  end
  return #holds > 0 and pass or nil
end

local pass
if redis.call('EXISTS', KEYS[2]) == 1 then
  pass = let_through()
  if not pass then return {now_ms, 'paused', 0, 0} end
end

local reply, taken, dropped, parked, kept, most = {now_ms, 'ok', 0, 0}, 0, 0, 0, 0, tonumber(ARGV[3])
if pass then most = math.min(most, 1) end
while taken < most and dropped + parked + kept < 100 and reply[2] == 'ok' do
  local heads = redis.call('LRANGE', KEYS[1], taken - most, -1) -- the head of the queue is the right end
  if #heads < most - taken then reply[2] = 'empty' end
  local number -- of tokens, taken for all of these at once
  for i = #heads, 1, -1 do
    local key = heads[i]
    local task = KEYS[11] .. key
    local had = redis.pcall('HMGET', task, 'msg', 'p:tok', 'p:exp', 'p:dead', 'p:wait', 'p:run', 'p:inc', 'pending_since',
      'p:due', 'p:row', 'p:icr', 'p:hold', 'p:erased', 'p:pass')
    if not had[1] or had[2] then
      -- No job behind the entry (or, of another type, none of ours), or a second entry of a running one.
      redis.call('RPOP', KEYS[1])
      dropped = dropped + 1
    elseif had[3] then
      -- An ended job was sent back by asynq's "run now": its result stands.
      redis.call('RPOP', KEYS[1])
      redis.call('ZADD', KEYS[5], had[3], key)
      redis.call('HSET', task, 'state', 'completed')
      decision(KEYS[10], 'run refused', key, 'asynq', 'the job has ended; its result stands', 'pending', 'ended')
      dropped = dropped + 1
    elseif had[4] and had[13] then
      redis.call('RPOP', KEYS[1])
      redis.call('ZADD', KEYS[15], now, key)
      redis.call('HSET', task, 'state', 'archived')
      decision(KEYS[10], 'run refused', key, 'asynq', 'its payload was erased; it needs another one', 'pending', 'quarantined')
      dropped = dropped + 1
    elseif had[12] and not had[5] then
      -- An operator has paused it while it ran, or while it waited for something else.
      redis.call('RPOP', KEYS[1])
      if had[4] then replayed(task, key) end
      keep(task, key, had[1], had[12], '', KEYS[12], KEYS[8], now_ms)
      kept = kept + 1
    elseif had[11] or tonumber(had[10] or 0) >= 2 then
      redis.call('RPOP', KEYS[1])
      if had[4] then replayed(task, key) end
      suspected(task, key, had[1], KEYS[12], KEYS[8], KEYS[13], now_ms, now_ms)
      parked = parked + 1
    else
      redis.call('RPOPLPUSH', KEYS[1], KEYS[3])
      number = (number or redis.call('INCRBY', KEYS[6], i) - i) + 1
      local token = number .. '-' .. ARGV[1] .. '-' .. ARGV[2]
      local run, incarnation = tonumber(had[6] or 0) + 1, had[7] or token
      if had[4] then replayed(task, key) end
      if had[5] then
        redis.call('ZREM', KEYS[8], key)
        redis.call('HDEL', task, 'p:wait', 'p:hold', 'p:back')
        decision(KEYS[10], 'resume', key, 'asynq', 'run now was asked for a paused job', 'paused', 'running')
      end
      redis.call('HSET', task, 'state', 'active', 'p:tok', token, 'p:cat', now_ms, 'p:run', run, 'p:inc', incarnation)
      -- A time that the job waited for stays behind when "run now" ends the wait.
      if had[6] or had[8] then redis.call('HDEL', task, 'pending_since', 'p:due') end
      redis.call('ZADD', KEYS[4], now + tonumber(ARGV[4]), key)
      redis.call('HSET', KEYS[7], key, token)
      -- The first execution of a job finds nothing recorded but what is known here.
      local job = {'msg', had[1], 'p:cat', now_ms, 'p:run', run, 'p:inc', incarnation}
      if had[6] then job = redis.call('HGETALL', task) end
      if had[14] then redis.call('HDEL', task, 'p:pass') end -- it is for this execution
      local passed = pass or not had[6] and had[14]
      if passed then
        job[#job + 1] = 'p:pass'
        job[#job + 1] = passed
      end
      if pass then redis.call('DEL', KEYS[17]) end
      table.insert(job, 1, had[8] or '')
      table.insert(job, 1, token)
      table.insert(job, 1, key)
      reply[#reply + 1] = job
      taken = taken + 1
    end
  end
end
reply[3], reply[4] = dropped, parked
return reply
