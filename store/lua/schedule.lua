-- schedule: define a schedule, or change it. A new timing begins now: no instant before counts,
-- and where the clock was ahead, those that were decided for later do not either.
-- KEYS[1] perdure:{@cron}:s:<name>   KEYS[2] perdure:{@cron}:names    KEYS[3] perdure:{@cron}:changes
-- KEYS[4] perdure:{@cron}:events     KEYS[5] perdure:{@cron}:ticks:<name>
-- KEYS[6] perdure:{@cron}:decided:<nonce> of this decision
-- ARGV[1] name   ARGV[2] definition   ARGV[3] its timing   ARGV[4] origin   ARGV[5] how many schedules there may be
-- ARGV[6] now in ms, or '': Redis' time   ARGV[7] actor   ARGV[8] reason   ARGV[9] how many ticks are kept on record
-- Returns 1 defined; 2 changed; 3 it was so before; 4 changed, and the last instant that was decided set back;
-- -2 there are too many; -3 it comes from code or file and this does not.
-- Sent twice, what it answered before.
local before = taken(KEYS[6])
if before then return before end
local had = redis.call('HMGET', KEYS[1], 'def', 'timing', 'origin', 'last', 'rev')
if had[1] == ARGV[2] and had[3] == ARGV[4] then return 3 end
if had[1] and had[3] ~= 'api' and ARGV[4] == 'api' then return -3 end
if not had[1] and redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[5]) then return -2 end
local _, now_ms = clock()
if ARGV[6] ~= '' then now_ms = tonumber(ARGV[6]) end
local last, code = tonumber(had[4] or 0), had[1] and 2 or 1
if had[2] ~= ARGV[3] then
  if last > now_ms then code = 4 end
  if had[1] then
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[9], '*', 'what', 'changed', 'from', string.format('%.0f', last),
      'at', string.format('%.0f', now_ms), 'n', 0, 'reason', ARGV[8])
  end
  last = now_ms
end
redis.call('HSET', KEYS[1], 'def', ARGV[2], 'timing', ARGV[3], 'origin', ARGV[4], 'last', string.format('%.0f', last))
redis.call('HINCRBY', KEYS[1], 'rev', 1)
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('INCR', KEYS[3])
local revision = tonumber(had[5] or 0)
decision(KEYS[4], had[1] and 'change schedule' or 'add schedule', ARGV[1], ARGV[7], ARGV[8],
  had[1] and string.format('revision %d, timing %s', revision, had[2] or '') or '', string.format('revision %d, timing %s', revision + 1, ARGV[3]))
return took(KEYS[6], code)
