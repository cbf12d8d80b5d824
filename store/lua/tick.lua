-- tick: decide what becomes of a schedule's next ticks: one fires, or some are skipped. It is carried out after, by
-- whoever finds it open.
-- KEYS[1] perdure:{@cron}:s:<name>   KEYS[2] perdure:{@cron}:ticks:<name>
-- ARGV[1] nonce of this call   ARGV[2] revision of the timetable   ARGV[3] the last tick decided, ms, as the caller knows it
-- ARGV[4] the tick up to which this decides, ms   ARGV[5] what is open then, or '': they are skipped
-- ARGV[6] when it is due, ms   ARGV[7] now in ms, or '': Redis' time   ARGV[8] skipped: the first, ms
-- ARGV[9] skipped: how many   ARGV[10] skipped: why   ARGV[11] how many ticks are kept on record
-- ARGV[12] the last run, as the caller knows it and has judged by
-- Returns 1 decided; -1 no such schedule; -2 it has changed; -3 it was paused meanwhile; -4 a tick is open; -5 not due yet;
-- -6 others have decided, or a run has begun that the caller does not know. Sent twice, 1 again.
local had = redis.call('HMGET', KEYS[1], 'rev', 'last', 'open', 'paused', 'nonce', 'run')
if not had[1] then return -1 end
if had[5] == ARGV[1] then return 1 end
if had[2] ~= ARGV[3] or (had[6] or '') ~= ARGV[12] then return -6 end
if had[1] ~= ARGV[2] then return -2 end
if had[3] then return -4 end
if had[4] and ARGV[5] ~= '' then return -3 end
local _, now_ms = clock()
if ARGV[7] ~= '' then now_ms = tonumber(ARGV[7]) end
if now_ms < tonumber(ARGV[6]) then return -5 end
redis.call('HSET', KEYS[1], 'last', ARGV[4], 'nonce', ARGV[1])
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'open', ARGV[5])
else
  redis.call('HINCRBY', KEYS[1], 'skipped', ARGV[9])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[11], '*', 'what', 'skipped', 'from', ARGV[8], 'at', ARGV[4], 'n', ARGV[9], 'reason', ARGV[10])
end
return 1
