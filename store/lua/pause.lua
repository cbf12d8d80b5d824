-- pause: park a job until something wakes it, at the latest when its fallback time comes. No attempt is used.
-- KEYS[1] asynq:{q}:t:<key>          KEYS[2] asynq:{q}:active    KEYS[3] asynq:{q}:lease
-- KEYS[4] perdure:{q}:own:<owner>    KEYS[5] asynq:{q}:retry     KEYS[6] perdure:{q}:parked
-- KEYS[7] perdure:{q}:lane:<name> <kind> of what it waits for, or KEYS[1]   KEYS[8] perdure:{q}:lanes
-- ARGV[1] key   ARGV[2] token   ARGV[3] message   ARGV[4] fallback in ms   ARGV[5] failure or ''
-- ARGV[6] how many failures are kept   ARGV[7] type of what it waits for   ARGV[8] name of it
-- ARGV[9] the kind's version, pinned when none is yet; 0: not known
-- ARGV[10] '<name> <kind>' when it waits in a lane, else ''   ARGV[11] when it first took its place there, ms, or ''
-- Returns 1 parked; 2 ended before by this token (sent twice); -1 no such job; -2 stale token.
-- p:wait is '<pause number> <since ms> <type> <name>'; the index entries' score is that since. A pause without a
-- failure, or in a lane, for a dependency or a limit, does not count among the job's pauses in a row: it was not tried.
local owns = ownership(KEYS[1], ARGV[2])
if owns ~= 1 then return owns end
local _, now_ms = clock()
local due, since, lane = now_ms + tonumber(ARGV[4]), now_ms, ARGV[10] ~= ''
if lane and ARGV[11] ~= '' then since = math.min(now_ms, tonumber(ARGV[11])) end
release(KEYS[2], KEYS[3], KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[5], math.floor(due / 1000), ARGV[1])
redis.call('ZADD', KEYS[6], since, ARGV[1])
local number = redis.call('HINCRBY', KEYS[1], 'p:pn', 1)
if lane then
  redis.call('ZADD', KEYS[7], since, ARGV[1])
  redis.call('SADD', KEYS[8], ARGV[10])
elseif ARGV[5] ~= '' then
  redis.call('HINCRBY', KEYS[1], 'p:waits', 1)
end
redis.call('HDEL', KEYS[1], 'p:tok', 'p:alone', 'p:pass')
if ARGV[9] ~= '0' then redis.call('HSETNX', KEYS[1], 'p:ver', ARGV[9]) end
redis.call('HSET', KEYS[1], 'msg', ARGV[3], 'state', 'retry', 'p:ltok', ARGV[2], 'p:due', due,
  'p:wait', string.format('%d %.0f %s %s', number, since, ARGV[7], ARGV[8]))
keep_failure(KEYS[1], ARGV[5], ARGV[6])
return 1
