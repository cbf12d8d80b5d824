-- prelude: the functions that the scripts share; it is put in front of each of them.
-- KEYS: none
-- ARGV: none
-- Returns nothing; it only defines.

-- clock returns Redis' time as whole seconds, as milliseconds, and as the text of nanoseconds.
local function clock()
  local t = redis.call('TIME')
  local seconds, micros = tonumber(t[1]), tonumber(t[2])
  return seconds, seconds * 1000 + math.floor(micros / 1000), string.format('%d%06d000', seconds, micros)
end

-- ownership compares the whole token: 1 the token owns the job; 2 the token owned it and its verdict is in
-- already (this call was sent twice); -1 there is no such job; -2 the token is stale. Of a job that the token owns it
-- returns its p:parent too, false when it is nobody's child.
local function ownership(task, token)
  local held = redis.call('HMGET', task, 'msg', 'p:tok', 'p:ltok', 'p:parent')
  if not held[1] then return -1 end
  if held[2] == token then return 1, held[4] end
  if held[3] == token then return 2 end
  return -2
end

-- release takes a running job off asynq's active list, its lease and its owner's list.
local function release(active, lease, own, key)
  redis.call('LREM', active, 1, key)
  redis.call('ZREM', lease, key)
  redis.call('HDEL', own, key)
end

-- count adds one to a day's counter, which expires at a unix time, and to its total.
local function count(day, total, expires)
  if redis.call('INCR', day) == 1 then redis.call('EXPIREAT', day, expires) end
  redis.call('INCR', total)
end

-- keep_failure stores a failure as the next numbered field and forgets the one that is too old. The first one stays: it
-- is where it began.
local function keep_failure(task, failure, most)
  if failure == '' then return end
  local n = redis.call('HINCRBY', task, 'p:fn', 1)
  redis.call('HSET', task, 'f:' .. n, failure)
  local old = n - tonumber(most)
  if old > 1 then redis.call('HDEL', task, 'f:' .. old) end
end

-- linked returns the number and the hash of the last event of a stream, 0 and '' when there is none that is part of the
-- chain, and the ID that follows it.
local function linked(events)
  local last = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1]
  local _, now_ms = clock()
  if not last then return 0, '', string.format('%.0f-0', now_ms) end
  local ms, number = string.match(last[1], '^(%d+)-(%d+)$')
  local id = string.format('%.0f-0', now_ms)
  if tonumber(ms) >= now_ms then id = string.format('%s-%.0f', ms, tonumber(number) + 1) end
  local n, hash = 0, ''
  for i = 1, #last[2], 2 do
    if last[2][i] == 'n' then n = tonumber(last[2][i + 1]) end
    if last[2][i] == 'hash' then hash = last[2][i + 1] end
  end
  return n, hash, id
end

-- decision appends an event to a stream, chained to the one before: its hash is the SHA-1 of that one's hash, of its own
-- ID and number and of what it says, each with its length in front. before and after, in words, are what it was about
-- before it and since; where both are '' or left out they are not part of it, as of decisions of older programs.
local function decision(events, what, key, actor, reason, before, after)
  local n, prev, id = linked(events)
  before, after = before or '', after or ''
  local parts = {prev, id, string.format('%.0f', n + 1), what, key, actor, reason}
  if before .. after ~= '' then parts[8], parts[9] = before, after end
  local text = ''
  for _, part in ipairs(parts) do text = text .. #part .. ':' .. part end
  local hash = redis.sha1hex(text)
  if before .. after == '' then
    redis.call('XADD', events, id, 'what', what, 'key', key, 'actor', actor, 'reason', reason, 'n', parts[3], 'prev', prev, 'hash', hash)
  else
    redis.call('XADD', events, id, 'what', what, 'key', key, 'actor', actor, 'reason', reason, 'before', before, 'after', after,
      'n', parts[3], 'prev', prev, 'hash', hash)
  end
end

-- turn_of returns the tenant whose turn a job waits for, nil when it waits for something else or for nothing.
local function turn_of(wait)
  return wait and string.match(wait, '^%d+ %d+ turn (.*)$')
end

-- called returns the state of a job as people call it, of its fields state, p:wait and p:end.
local function called(state, wait, ended)
  if state == 'active' then return 'running' end
  if state == 'archived' then return 'quarantined' end
  if state == 'retry' then return turn_of(wait) and 'pending' or wait and 'paused' or 'retrying' end
  if state == 'completed' then return ended or 'completed' end
  return state or ''
end

-- taken returns what this very decision has answered before, if it is sent again; its key is of no other decision.
local function taken(decided)
  local answer = redis.call('GET', decided)
  return answer and tonumber(answer)
end

-- took keeps the answer of a decision for ten minutes, longer than anybody sends it again, and returns it.
local function took(decided, answer)
  redis.call('SET', decided, answer, 'EX', 600)
  return answer
end

-- asked says what somebody has asked of a running job: 0 nothing, 1 to end as cancelled, 2 to pause. One that is being
-- undone is ending already.
local function asked(task)
  local had = redis.call('HMGET', task, 'p:can', 'p:hold', 'p:undo')
  return had[1] and not had[3] and 1 or had[2] and 2 or 0
end

-- shown returns the message with the error that asynq's tools show, of at most 127 bytes. That is field 7; of a field
-- that occurs twice the last one counts.
local function shown(msg, text)
  local field = ':' .. string.char(#text) .. text
  if string.sub(msg, -#field) == field then return msg end
  return msg .. field
end

-- unshown takes back what shown has added, if that is the last of the message.
local function unshown(msg, text)
  local field = ':' .. string.char(#text) .. text
  if string.sub(msg, -#field) ~= field then return msg end
  return string.sub(msg, 1, -#field - 1)
end

-- fresh returns the message as of a job that has never failed: no attempts used (field 6), no error (field 7). Of a field
-- that occurs twice the last one counts.
local function fresh(msg)
  local field = string.char(48, 0, 58, 0)
  if string.sub(msg, -#field) == field then return msg end
  return msg .. field
end

-- tenant_of returns on whose behalf a message's job runs: its header perdure-tenant, '-' when it has none that perdure's
-- client would write. Fields are walked, so a payload that looks like the header does not count; most messages of
-- queues without tenants do not have those bytes at all. Of a header that occurs twice the last one counts.
local function tenant_of(msg)
  local mark = '\10\14perdure-tenant\18'
  if not string.find(msg, mark, 1, true) then return '-' end
  local byte, at, tenant = string.byte, 1, '-'
  while true do
    local tag = byte(msg, at)
    local kind = tag and tag % 8
    while tag and tag > 127 do at = at + 1; tag = byte(msg, at) end -- of a field from 16 on
    if kind == 2 then
      local size, scale, piece = 0, 1
      repeat
        at = at + 1
        piece = byte(msg, at)
        if not piece then return tenant end
        size, scale = size + piece % 128 * scale, scale * 128
      until piece < 128
      if tag == 122 and string.sub(msg, at + 1, at + 17) == mark then
        local length = byte(msg, at + 18) or 0
        local name = string.sub(msg, at + 19, at + 18 + length)
        tenant = length <= 64 and string.match(name, '^[a-z0-9][a-z0-9_.-]*$') or '-'
      end
      at = at + size + 1
    elseif kind == 0 then
      repeat
        at = at + 1
        local piece = byte(msg, at)
      until not piece or piece < 128
      at = at + 1
    elseif kind == 1 then at = at + 9
    elseif kind == 5 then at = at + 5
    else return tenant end
  end
end

-- turn_text is what asynq's tools show of a job that waits its turn.
local function turn_text(tenant)
  if tenant == '-' then return 'waits its turn: jobs without a tenant have more queued' end
  return 'waits its turn: tenant ' .. tenant .. ' has more jobs queued'
end

-- keep parks a job that an operator has paused: no timer wakes it. To asynq it is a retry in the year 2100. back is where
-- it belongs when it is resumed before its time, '<set> <due ms>', or ''.
local function keep(task, key, msg, hold, back, retry, parked, now_ms)
  redis.call('ZADD', retry, 4102444800, key)
  redis.call('ZADD', parked, now_ms, key)
  redis.call('HSET', task, 'msg', shown(msg, 'paused: by an operator, until it is resumed'), 'state', 'retry', 'p:hold', hold,
    'p:due', '4102444800000', 'p:wait', string.format('%d %.0f operator %s', redis.call('HINCRBY', task, 'p:pn', 1), now_ms, hold))
  redis.call('HDEL', task, 'pending_since', 'p:back')
  if back ~= '' then redis.call('HSET', task, 'p:back', back) end
end

-- report puts into a queue's outbox that a child has ended; of a job that is nobody's child there is nothing to report.
-- The entry is p:parent: it says where to deliver it.
local function report(reports, parent)
  if not parent then return end
  local _, now_ms = clock()
  redis.call('ZADD', reports, now_ms, parent)
end

-- orphaned puts a cancelled job that has made children into a queue's outbox, so that they are cancelled too.
local function orphaned(task, orphans, key)
  if redis.call('HEXISTS', task, 'p:kids') == 0 then return end
  local _, now_ms = clock()
  redis.call('ZADD', orphans, now_ms, key)
end

-- wake sends a job that is parked for something that it asked for back to its queue; it returns whether it was so parked.
local function wake(task, key, retry, parked, pending)
  local had = redis.call('HMGET', task, 'state', 'p:wait')
  local type = had[2] and string.match(had[2], '^%d+ %d+ (%a+)')
  if had[1] ~= 'retry' or type ~= 'signal' and type ~= 'timer' and type ~= 'children' then return false end
  if redis.call('ZREM', retry, key) == 0 then return false end
  local _, _, now_ns = clock()
  redis.call('ZREM', parked, key)
  redis.call('HDEL', task, 'p:due', 'p:wait')
  redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ns)
  redis.call('LPUSH', pending, key)
  return true
end

-- suspected parks a job among the suspects, which run one at a time in a process of their own, from ready_ms on. To
-- asynq it is a retry in a day; whoever ends that wait early meets the claim script, which parks the job here again.
local function suspected(task, key, msg, retry, parked, suspects, now_ms, ready_ms)
  local due = now_ms + 86400000
  redis.call('ZADD', retry, math.floor(due / 1000), key)
  redis.call('ZADD', parked, now_ms, key)
  redis.call('ZADD', suspects, ready_ms, key)
  redis.call('HSET', task, 'msg', shown(msg, 'isolated: its workers died while it ran; it runs alone now'), 'state', 'retry',
    'p:due', due, 'p:wait', string.format('%d %.0f isolation a process of its own', redis.call('HINCRBY', task, 'p:pn', 1), now_ms))
  redis.call('HDEL', task, 'pending_since')
end

-- grouped puts a quarantined job into the group of its signature, which opens again when it was resolved. groups is the
-- set of all groups; what belongs to one has that name, ':' and the signature in front. A group counts 50 versions.
local function grouped(task, key, groups, signature, about, version, now_ms, events)
  local group = groups .. ':' .. signature
  redis.call('ZADD', groups, now_ms, signature)
  redis.call('ZADD', group .. ':keys', now_ms, key)
  redis.call('HSET', group, 'about', about)
  redis.call('HSETNX', group, 'first', now_ms)
  redis.call('HINCRBY', group, 'seen', 1)
  if version ~= '0' and (redis.call('HLEN', group) < 57 or redis.call('HEXISTS', group, 'v:' .. version) == 1) then
    redis.call('HINCRBY', group, 'v:' .. version, 1)
  end
  if redis.call('HGET', group, 'state') == 'resolved' then
    redis.call('HDEL', group, 'state', 'by')
    redis.call('HINCRBY', group, 'reopened', 1)
    decision(events, 'reopen group ' .. signature, key, 'perdure', 'it was resolved and has failed so again', 'resolved', 'open')
  end
  redis.call('HSET', task, 'p:sig', signature)
end

-- ungrouped takes a job that leaves the quarantine off the dead index and off its group, which stays for its history.
local function ungrouped(task, key, dead, groups)
  redis.call('ZREM', dead, key)
  local signature = redis.call('HGET', task, 'p:sig')
  if not signature then return end
  redis.call('ZREM', groups .. ':' .. signature .. ':keys', key)
  redis.call('HDEL', task, 'p:sig')
end

-- undoable says whether a job has recorded steps that are to be undone before it ends for good.
local function undoable(task)
  if redis.call('HEXISTS', task, 'p:undos') == 0 then return false end
  for _, field in ipairs(redis.call('HKEYS', task)) do
    if string.sub(field, 1, 2) == 'u:' and redis.call('HEXISTS', task, 's:undo/' .. string.sub(field, 3)) == 0 then return true end
  end
  return false
end

-- renewed forgets the steps that were undone, so that they are begun anew, unless the undoing has not come to its end.
local function renewed(task)
  if redis.call('HEXISTS', task, 'p:undos') == 0 or redis.call('HEXISTS', task, 'p:undo') == 1 then return end
  for _, field in ipairs(redis.call('HKEYS', task)) do
    local step = string.sub(field, 1, 2) == 'u:' and string.sub(field, 3)
    if step and redis.call('HDEL', task, 's:undo/' .. step) == 1 then
      redis.call('HDEL', task, 's:' .. step, field)
      redis.call('HINCRBY', task, 'r:' .. step, 1)
    end
  end
end

-- unfailed forgets of a job's children that they have failed: they are looked at again.
local function unfailed(task)
  if redis.call('HEXISTS', task, 'p:kids') == 0 then return end
  for _, field in ipairs(redis.call('HKEYS', task)) do
    local step = string.sub(field, 1, 2) == 'c:' and 's:' .. string.sub(field, 3)
    if step and string.find(redis.call('HGET', task, step) or '', '^%d+ %d+ %d+ f') then redis.call('HDEL', task, step) end
  end
end

-- revived returns a quarantined job to its queue with fresh attempts: from 'start', every recorded step forgotten, or
-- from the 'failed' one. Key and incarnation stay.
local function revived(task, key, msg, from, pending, archived, dead, groups)
  local _, _, now_ns = clock()
  redis.call('ZREM', archived, key)
  ungrouped(task, key, dead, groups)
  if from == 'start' then redis.call('HDEL', task, 'p:undo') end
  renewed(task)
  if from == 'start' then
    for _, field in ipairs(redis.call('HKEYS', task)) do
      if string.find('s: h: w: g: i: c: b: u:', string.sub(field, 1, 2), 1, true) then redis.call('HDEL', task, field) end
    end
    redis.call('HDEL', task, 'p:ver')
  else
    unfailed(task)
  end
  redis.call('HDEL', task, 'p:dead', 'p:att', 'p:waits', 'p:cra', 'p:icr', 'p:blame', 'p:plan', 'p:pass')
  redis.call('HSET', task, 'msg', msg, 'state', 'pending', 'pending_since', now_ns)
  redis.call('LPUSH', pending, key)
end

-- foreign reports whether asynq's own tools have paused a queue, by what its paused key says: ours say so.
local function foreign(by)
  return by and string.sub(by, 1, 8) ~= 'perdure '
end

-- rests reports whether a queue is paused by anything but dependencies: those let one job through to find out whether they
-- are back.
local function rests(paused, holds)
  local by = redis.call('GET', paused)
  if not by then return false end
  if foreign(by) then return true end
  local reasons = redis.call('HKEYS', holds)
  for _, reason in ipairs(reasons) do
    if string.sub(reason, 1, 11) ~= 'dependency:' then return true end
  end
  return #reasons == 0
end

-- probes says whether a pass is that of a probe that may begin still: within four seconds, as the worker sees it too.
local function probes(pass, now_ms)
  local issued = string.match(pass or '', '^%d+ (%d+) probe ')
  return issued and now_ms - tonumber(issued) < 4000
end

-- place returns what is left of a pass when its execution has been claimed: it lets nothing begin any more, but should the
-- job be sent back before it ends in any way, by it the job keeps its place in the line.
local function place(pass)
  return (string.gsub(pass, '^(%d+) %d+ %a+ %d+ %S+', '%1 0 pass 0 -'))
end

-- What follows is about dependencies and limits. Their records are hashes in one slot of their own, {@dep}.

-- setting returns a setting: an operator's, else that of the programs, else the default.
local function setting(record, name, default)
  local had = redis.call('HMGET', record, name, 'code:' .. name)
  return tonumber(had[1] or had[2] or default)
end

-- post shows where a dependency stands, on the board, and tells those who listen to look there. What is closed and bounds nothing is not there.
local function post(record, board, name)
  local had = redis.call('HMGET', record, 'state', 'turn', 'since', 'reason', 'by', 'forced', 'until')
  local state, rate, places = had[1] or 'closed', setting(record, 'rate', 0), setting(record, 'places', 0)
  if state ~= 'closed' or rate > 0 or places > 0 then
    redis.call('HSET', board, name, cjson.encode({state = state, turn = tonumber(had[2] or 0), since = tonumber(had[3] or 0), reason = had[4] or '', by = had[5] or '',
      forced = had[6] == '1', throttled = tonumber(had[7] or 0), rate = rate, places = places}))
  else
    redis.call('HDEL', board, name)
  end
  redis.call('PUBLISH', 'perdure:{@dep}:news', name)
end

-- opens opens a breaker: from now on nothing is let through but a probe. Its turn tells it from other times.
local function opens(record, board, names, events, votes, name, actor, reason, forced)
  local _, now_ms = clock()
  local before = redis.call('HGET', record, 'state') or 'closed'
  redis.call('HINCRBY', record, 'turn', 1)
  redis.call('HSET', record, 'state', 'open', 'since', now_ms, 'reason', reason, 'by', actor, 'next', now_ms + 1000, 'probes', 0, 'resumed', 0)
  redis.call('HDEL', record, 'probe', 'lasts', 'from', 'start', 'ramp:next', 'ramp:begun', 'forced', 'until', 'found')
  if forced then redis.call('HSET', record, 'forced', 1) end
  redis.call('PERSIST', record)
  redis.call('ZADD', names, now_ms, name)
  redis.call('DEL', votes)
  decision(events, 'open', name, actor, reason, before, 'open')
  post(record, board, name)
end

-- recovers lets jobs through again, from a time on: so many a second at first, and twice as many each second, up to the
-- rate at which they come back.
local function recovers(record, board, names, events, votes, name, from_ms, start, actor, reason)
  local _, now_ms = clock()
  local before = redis.call('HGET', record, 'state') or 'closed'
  redis.call('HSET', record, 'state', 'recovering', 'since', now_ms, 'reason', reason, 'by', actor, 'from', from_ms, 'start', start)
  redis.call('HDEL', record, 'probe', 'lasts', 'next', 'forced')
  -- Where it recovers already, what was let through just now counts for the ramp that begins anew.
  if before ~= 'recovering' then redis.call('HDEL', record, 'ramp:next', 'ramp:begun') end
  redis.call('PERSIST', record)
  redis.call('ZADD', names, now_ms, name)
  redis.call('DEL', votes)
  decision(events, 'recover', name, actor, reason, before, 'recovering')
  post(record, board, name)
end

-- ramp returns how many a second may begin while a dependency recovers: 0 before it does.
local function ramp(record, now_ms)
  local had = redis.call('HMGET', record, 'from', 'start', 'until')
  local from, most = tonumber(had[1] or now_ms), setting(record, 'resume', 100)
  if now_ms < from and now_ms < tonumber(had[3] or 0) then return 0 end
  from = math.min(from, now_ms) -- the clock was set back
  return math.min(most, tonumber(had[2] or 1) * 2 ^ math.min(30, math.floor((now_ms - from) / 1000)))
end

-- permitted returns how many of most may begin now at a rate, and of none in how many ms one may. A field has from when on
-- the next may. It is the generic cell rate algorithm (ITU-T I.371): what was not used is made up for, of a tenth of a
-- second at most, so no second sees more than 1.1 times the rate, and one. A time that is further off than the rate makes it
-- is of a slower one, or of before the clock was set back.
local function permitted(record, field, now_ms, rate, most)
  if rate <= 0 or most < 1 then return 0, 0 end
  local gap = 1000 / rate
  local at = math.max(tonumber(redis.call('HGET', record, field) or now_ms), now_ms - 100)
  if at > now_ms + gap then
    at = now_ms + gap
    redis.call('HSET', record, field, string.format('%.3f', at))
  end
  if at > now_ms then return 0, math.max(1, math.ceil(at - now_ms)) end
  return math.min(most, math.floor((now_ms - at) / gap) + 1), 0
end

-- permit notes that n begin now, which are permitted.
local function permit(record, field, now_ms, rate, n)
  local at = math.max(tonumber(redis.call('HGET', record, field) or now_ms), now_ms - 100)
  redis.call('HSET', record, field, string.format('%.3f', at + n * 1000 / rate))
end

-- free returns how many places are free under a limit of concurrency; those whose owner has gone are.
local function free(leases, now_ms, most)
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', now_ms)
  return most - redis.call('ZCARD', leases)
end
