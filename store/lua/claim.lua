-- claim: take up to n jobs from a queue for an owner; message and record come back in the same round trip. Of a queue that
-- tenants share, jobs are taken in turn, one of each tenant, and those that stand before others' wait their turn.
-- KEYS[1] asynq:{q}:pending          KEYS[2] asynq:{q}:paused         KEYS[3] asynq:{q}:active
-- KEYS[4] asynq:{q}:lease            KEYS[5] asynq:{q}:completed      KEYS[6] perdure:{q}:tokens
-- KEYS[7] perdure:{q}:own:<owner>    KEYS[8] perdure:{q}:parked       KEYS[9] perdure:{q}:dead
-- KEYS[10] perdure:{q}:events        KEYS[11] asynq:{q}:t: (the prefix: which jobs are met is only known here)
-- KEYS[12] asynq:{q}:retry           KEYS[13] perdure:{q}:suspects     KEYS[14] perdure:{q}:groups
-- KEYS[15] asynq:{q}:archived        KEYS[16] perdure:{q}:tenants      KEYS[17] perdure:{q}:turns
-- KEYS[18] perdure:{q}:turn: (the prefix: which tenants are met is only known here)   KEYS[19] perdure:{q}:queued
-- KEYS[20] perdure:{q}:holds          KEYS[21] perdure:{q}:probes
-- ARGV[1] owner   ARGV[2] the owner's sequence number of this call   ARGV[3] most jobs to take; 0: none, a long queue that
-- tenants share is sorted   ARGV[4] lease in seconds   ARGV[5] how much of a shared queue is looked at, in jobs
-- Returns {now in ms, status, dropped, suspects, job, job, …}: status 'ok', 'empty' (took fewer than asked, or has sorted
-- all), 'paused' or 'fenced' (the owner was declared dead; nothing was taken). dropped counts entries that stood for no claimable
-- job; suspects counts jobs that were parked to be run by `isolate`: two workers have died while they ran and no step was
-- recorded between, or a process that ran nothing else has. A job is {key, token, pending since (ns) or '', field, value, …}: its hash as it now is.
-- A queue that is paused for nothing but dependencies lets one job through for each pass at KEYS[21]: it finds out whether one of
-- them is back.
-- A reply that is lost leaves jobs owned and unknown: the owner finds them by `holdings` and hands them back.
local now, now_ms = clock()

-- replayed notes that asynq's "run now" has sent a quarantined job back.
local function replayed(task, key)
  ungrouped(task, key, KEYS[9], KEYS[14])
  redis.call('HDEL', task, 'p:dead', 'p:att', 'p:icr', 'p:plan', 'p:pass')
  renewed(task)
  decision(KEYS[10], 'replay', key, 'asynq', 'run now was asked for a quarantined job', 'quarantined', 'pending')
end

-- waited ends that a job waits its turn, and returns its message without the word of it.
local function waited(task, key, msg, tenant)
  msg = unshown(msg, turn_text(tenant))
  redis.call('ZREM', KEYS[19], key)
  redis.call('HSET', task, 'msg', msg)
  redis.call('HDEL', task, 'p:wait', 'p:due')
  return msg
end

-- probe returns the pass of a probe that is to be claimed.
local function probe()
  for _, pass in ipairs(redis.call('HVALS', KEYS[21])) do
    if probes(pass, now_ms) then return pass end
  end
end

-- claimed notes that a probe is.
local function claimed(pass)
  local name = string.match(pass, '%S+$')
  if redis.call('HGET', KEYS[21], name) == pass then redis.call('HDEL', KEYS[21], name) end
end

-- standing returns the pass of one that is let through, with its place in the line: where it stood, or since it is pending.
local function standing(let, had, pending_ns)
  local since = string.match(had or '', '^%d+') or string.match(pending_ns or '', '^(%d+)%d%d%d%d%d%d$')
  return since and string.gsub(let, '^%d+', since) or let
end

if redis.call('HEXISTS', KEYS[7], '!fenced') == 1 then return {now_ms, 'fenced', 0, 0} end

local pass
if redis.call('EXISTS', KEYS[2]) == 1 then
  pass = not rests(KEYS[2], KEYS[20]) and probe()
  if not pass then return {now_ms, 'paused', 0, 0} end
end

local reply, taken, dropped, parked, kept, most, gone = {now_ms, 'ok', 0, 0}, 0, 0, 0, 0, tonumber(ARGV[3]), 0
if pass then most = math.min(most, 1) end
-- Of a queue that tenants share, those that stand in the queue are looked at, up to a bound, and sorted: each tenant has a
-- list of the jobs that wait their turn, in order, and stands in KEYS[17] by its round. Whose round is the lowest is next,
-- and has a higher one then. Those whose turn it is are put to the head of the queue, to be taken from there as of any
-- other queue; the others wait. A job that waits is in asynq's retry set alone, and an entry of a tenant's list counts for
-- nothing when its job does not wait for it any more.
-- The last of what would wait stays in the queue: while jobs wait it is not empty, so whoever looks for work finds some.
local bound, sorts = tonumber(ARGV[5]), ARGV[3] == '0'
if redis.call('SCARD', KEYS[16]) >= 2 and (redis.call('EXISTS', KEYS[17]) == 1 or redis.call('LLEN', KEYS[1]) > (sorts and bound or most)) then
  local lines, tenants, ahead, mine, wanted, popped, sorted, seen = {}, {}, {}, {}, most, 0, 0, {}

  -- line returns what a tenant has among the jobs looked at: first are those that go before what waits of it already.
  local function line(tenant)
    if not lines[tenant] then
      lines[tenant] = {first = {}, last = {}, at = {first = 1, last = 1}}
      tenants[#tenants + 1] = tenant
    end
    return lines[tenant]
  end

  -- meet takes jobs off the queue and puts each into its line. What people have asked for goes first of all, and so does
  -- what is not to run, and what a dependency has sent back.
  local function meet()
    local heads = redis.call('LRANGE', KEYS[1], -bound, -1)
    local looked, bytes = 0, 0
    for i = #heads, 1, -1 do
      if bytes > 4194304 or #ahead == 90 then break end
      looked = looked + 1
      local key = heads[i]
      local had = redis.pcall('HMGET', KEYS[11] .. key, 'msg', 'p:tok', 'p:exp', 'p:dead', 'p:wait', 'p:run', 'p:hold', 'pending_since',
        'p:undo', 'p:row', 'p:icr', 'p:erased', 'p:pn', 'p:pass')
      local turn = turn_of(had[5])
      local aside = had[3] or had[4] and had[12] or had[7] and not had[5] or had[11] or tonumber(had[10] or 0) >= 2
      if not had[1] or had[2] or seen[key] then
        gone = gone + 1
      elseif aside or had[4] or had[14] and not string.find(had[14], '^%d+ 0 ') or had[5] and not turn then
        ahead[#ahead + 1] = key
        if not aside then wanted = wanted - 1 end
      else
        local early = turn or had[9] or had[14] or had[6] and not had[8] -- it has waited, or was sent back: to undo, or by a worker
        local own = line(turn or tenant_of(had[1]))[early and 'first' or 'last']
        own[#own + 1] = {key = key, msg = had[1], pn = had[13], number = looked}
        if turn then redis.call('ZREM', KEYS[19], key) end
      end
      seen[key], bytes = true, bytes + #(had[1] or '')
    end
    if looked > 0 then redis.call('LTRIM', KEYS[1], 0, -looked - 1) end
    local lowest = redis.call('ZRANGE', KEYS[17], 0, 0, 'WITHSCORES')[2] or 0
    for _, tenant in ipairs(tenants) do redis.call('ZADD', KEYS[17], 'NX', lowest, tenant) end
  end

  -- met returns the next of a tenant's jobs that were looked at.
  local function met(tenant, which)
    local own = lines[tenant]
    local job = own and own[which][own.at[which]]
    if job then own.at[which] = own.at[which] + 1 end
    return job and job.key
  end

  -- waiting takes a job off a tenant's list, from its 'LPOP' or 'RPOP' end, and off the retry set.
  local function waiting(tenant, pop)
    while popped < 500 do
      local entry = redis.call(pop, KEYS[18] .. tenant)
      if not entry then return nil end
      popped = popped + 1
      local since, key = string.match(entry, '^(%d+ %d+) (.*)$')
      local had = redis.pcall('HMGET', KEYS[11] .. (key or ''), 'p:wait') -- of what is no job by now there is none
      if had[1] and had[1] == since .. ' turn ' .. tenant and redis.call('ZREM', KEYS[12], key) == 1 then
        redis.call('HSET', KEYS[11] .. key, 'state', 'pending')
        return key
      end
    end
  end

  -- choose takes the next job of the tenant whose turn it is.
  local function choose()
    while popped < 500 do
      local tenant = redis.call('ZRANGE', KEYS[17], 0, 0)[1]
      if not tenant then return nil end
      local key = met(tenant, 'first') or waiting(tenant, 'LPOP') or popped < 500 and met(tenant, 'last')
      if key then
        redis.call('ZINCRBY', KEYS[17], 1, tenant)
        return key
      end
      if popped < 500 then redis.call('ZREM', KEYS[17], tenant) end
    end
  end

  -- wait has a job wait its turn. To asynq it is a retry in a day: it looks for itself then.
  local function wait(job, tenant, push)
    local due, number = now_ms + 86400000, tonumber(job.pn or 0) + 1
    local since = string.format('%d %.0f', number, now_ms)
    redis.call('ZADD', KEYS[12], math.floor(due / 1000), job.key)
    redis.call('ZADD', KEYS[19], now_ms, job.key)
    redis.call('HSET', KEYS[11] .. job.key, 'msg', shown(job.msg, turn_text(tenant)), 'state', 'retry', 'p:due', due, 'p:pn', number,
      'p:wait', since .. ' turn ' .. tenant)
    redis.call(push, KEYS[18] .. tenant, since .. ' ' .. job.key)
    sorted = sorted + 1
  end

  -- stays returns the one that stays in the queue when no others are there: the last of those that were looked at, so that
  -- none of its tenant's stands behind it; where all of them go first, the first of these.
  local function stays()
    if redis.call('EXISTS', KEYS[1]) == 1 then return nil end
    local last, first
    for _, own in pairs(lines) do
      local l, f = own.last[math.max(#own.last, own.at.last)], own.first[own.at.first]
      if l and (not last or l.number > last.number) then last = l end
      if f and (not first or f.number < first.number) then first = f end
    end
    return last or first
  end

  -- sort has those wait that were looked at and are not chosen.
  local function sort()
    local stay = stays()
    if stay then redis.call('RPUSH', KEYS[1], stay.key) end
    for _, tenant in ipairs(tenants) do
      local own = lines[tenant]
      for i = #own.first, own.at.first, -1 do
        if own.first[i] ~= stay then wait(own.first[i], tenant, 'LPUSH') end
      end
      for i = own.at.last, #own.last do
        if own.last[i] ~= stay then wait(own.last[i], tenant, 'RPUSH') end
      end
    end
  end

  -- beckon sends the last of those that wait back to a queue that is empty.
  local function beckon()
    while popped < 500 and redis.call('EXISTS', KEYS[1]) == 0 do
      local tenant = redis.call('ZRANGE', KEYS[17], 0, 0)[1]
      if not tenant then return end
      local key = waiting(tenant, 'RPOP')
      if key then
        local task = KEYS[11] .. key
        waited(task, key, redis.call('HGET', task, 'msg') or '', tenant)
        redis.call('RPUSH', KEYS[1], key)
      elseif popped < 500 then
        redis.call('ZREM', KEYS[17], tenant)
      end
    end
  end

  if not sorts or redis.call('LLEN', KEYS[1]) > bound then meet() end
  while #mine < wanted do
    local key = choose()
    if not key then break end
    mine[#mine + 1] = key
  end
  sort()
  beckon()
  for i = #mine, 1, -1 do redis.call('RPUSH', KEYS[1], mine[i]) end
  for i = #ahead, 1, -1 do redis.call('RPUSH', KEYS[1], ahead[i]) end
  if sorts and (sorted == 0 or redis.call('LLEN', KEYS[1]) <= bound) then reply[2] = 'empty' end
  if #mine < wanted and popped == 500 then most = most - wanted + #mine end -- there is more: the next call goes on
end

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
      if had[5] then redis.call('ZREM', KEYS[19], key) end
      suspected(task, key, had[1], KEYS[12], KEYS[8], KEYS[13], now_ms, now_ms)
      parked = parked + 1
      if probes(had[14], now_ms) then -- it is the probe, by itself
        claimed(had[14])
        if pass then most = taken end
      end
    else
      redis.call('RPOPLPUSH', KEYS[1], KEYS[3])
      number = (number or redis.call('INCRBY', KEYS[6], i) - i) + 1
      local token = number .. '-' .. ARGV[1] .. '-' .. ARGV[2]
      local run, incarnation = tonumber(had[6] or 0) + 1, had[7] or token
      if had[4] then
        replayed(task, key)
        had[14] = nil
      end
      if had[5] and turn_of(had[5]) then
        had[1] = waited(task, key, had[1], turn_of(had[5]))
      elseif had[5] then
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
      local own = probes(had[14], now_ms) and had[14] -- it was sent back to find out
      local passed = own or pass and standing(pass, had[14], had[8]) or had[14]
      if passed then
        job[#job + 1] = 'p:pass'
        job[#job + 1] = passed
        redis.call('HSET', task, 'p:pass', place(passed)) -- it is for this execution
      end
      if own or pass then claimed(own or pass) end
      table.insert(job, 1, had[8] or '')
      table.insert(job, 1, token)
      table.insert(job, 1, key)
      reply[#reply + 1] = job
      taken = taken + 1
    end
  end
end
reply[3], reply[4] = dropped + gone, parked
return reply
